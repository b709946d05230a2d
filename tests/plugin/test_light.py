"""The plugin is loaded in every session of every user: it must cost next to nothing."""

from __future__ import annotations

HEAVY = (
    *("torch", "numpy", "transformers", "hypothesis", "triton", "scipy", "matplotlib", "tabulate"),
    *("safetensors", "tokenizers", "huggingface_hub", "tqdm", "filelock", "platformdirs"),
)


def test_nothing_heavy_in_a_session_without_us(pytester):
    pytester.makepyfile("def test_own():\n    pass")
    pytester.makeconftest(
        f"""
        import sys

        def pytest_unconfigure(config):
            print("heavy:", sorted(set(sys.modules) & set({HEAVY!r})))
            print("ours:", sorted(m for m in sys.modules if m.startswith("pytest_sparsity.")))
        """
    )
    result = pytester.runpytest_subprocess(
        *("-s", "-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:xdist"),
        *("-p", "no:platformdirs", "-p", "no:anyio"),
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["heavy: []", "ours: *'pytest_sparsity.plugin.hooks'*"])
    for part in (
        "sweep",
        "models",
        "evaluation",
        "methods",
        "spon",
        "reporting",
        "plugin.reporter",
        "plugin.sinks",
        "settings.settings",
        "core.progress",
        "targets",
    ):
        assert f"'pytest_sparsity.{part}" not in result.stdout.str()
