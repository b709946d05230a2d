"""Options of the gate: each wrong one is one sentence with the fix, before anything is run."""

from __future__ import annotations

from typing import Any

import pytest

SWEEP = ("--sparsity-sweep", "--sparsity-suite=kernels")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sparsity-gate=fail"], ["nothing to compare with", "--sparsity-baseline"]),
        (["--sparsity-gate=maybe"], ["--sparsity-gate 'maybe'", "off, warn, fail"]),
        (["--sparsity-tolerance=8%"], ["'8%'", "write it as a fraction: 0.08"]),
        (["--sparsity-tolerance=%"], ["'%'", "0.08 for 8 %"]),
        (["--sparsity-tolerance=-0.08"], ["'-0.08'", "above 0 and below 1"]),
        (["--sparsity-tolerance=8"], ["'8'", "above 0 and below 1"]),
        (["--sparsity-tolerance=nan"], ["'nan'", "above 0 and below 1"]),
        (["--sparsity-tolerance=much"], ["'much'", "above 0 and below 1"]),
        (["--sparsity-update"], ["--sparsity-budgets FILE", "--sparsity-baseline DIR"]),
        (["--sparsity-update-new-only"], ["--sparsity-update-new-only", "--sparsity-baseline"]),
        (
            ["--sparsity-update", "--sparsity-gate=fail", "--sparsity-baseline=b"],
            ["--sparsity-update", "it would replace", "--sparsity-update-new-only"],
        ),
        (
            ["--sparsity-update", "--sparsity-update-new-only", "--sparsity-baseline=b"],
            ["--sparsity-update and --sparsity-update-new-only: give one of them"],
        ),
        (
            ["--sparsity-update", "--sparsity-budgets=t.toml"],
            ["--sparsity-update: only a sweep measures budgets", "add --sparsity-sweep"],
        ),
        (
            [
                *("--sparsity-update-new-only", "--sparsity-baseline=b"),
                *("--sparsity-gate=fail", "--sparsity-against=main"),
            ],
            ["--sparsity-update-new-only: times of a run with --sparsity-against are not stored"],
        ),
        (
            ["--sparsity-update", "--sparsity-baseline=sparsity-report"],
            ["--sparsity-baseline", "this run reports there"],
        ),
        (
            ["--sparsity-gate=fail", "--sparsity-baseline=nowhere"],
            ["nowhere holds no stored run", "store one with --sparsity-update"],
        ),
        (["--sparsity-gate=fail", f"--sparsity-baseline={'x' * 300}"], ["cannot be read"]),
        (["--sparsity-against=main"], ["--sparsity-against 'main'", "--sparsity-gate=fail"]),
        (
            ["--sparsity-gate=fail", "--sparsity-against=--upload-pack=x"],
            ["--sparsity-against", "name a git revision"],
        ),
        (
            ["--sparsity-gate=fail", "--sparsity-baseline=empty"],
            ["empty holds no stored run", "store one with --sparsity-update"],
        ),
    ],
)
def test_refused(
    pytester: pytest.Pytester, assert_refused: Any, options: list[str], words: list[str]
) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    assert_refused(pytester.runpytest_inprocess(*options), *words)


def test_a_damaged_baseline_is_refused_before_work(
    pytester: pytest.Pytester, assert_refused: Any
) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    pytester.mkdir("stored").joinpath("speed.json").write_text('{"schema": 7}')
    gate = ("--sparsity-gate=fail", "--sparsity-baseline=stored")
    assert_refused(pytester.runpytest_inprocess(*gate), "speed.json has schema 7", "later version")
    update = ("--sparsity-update", "--sparsity-baseline=stored")
    assert_refused(pytester.runpytest_inprocess(*update), "speed.json has schema 7")
    assert (pytester.path / "stored" / "speed.json").read_text() == '{"schema": 7}'


@pytest.mark.parametrize("content", ["", '{"cell"', "{}\n", '{"schema": 99}\n', "\0\n"])
def test_damaged_records_are_refused_before_work(
    pytester: pytest.Pytester, assert_refused: Any, content: str
) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    path = pytester.mkdir("stored") / "records.jsonl"
    path.write_text(content)
    for option in ("--sparsity-gate=fail", "--sparsity-update"):
        result = pytester.runpytest_inprocess(option, "--sparsity-baseline=stored")
        assert_refused(result, "--sparsity-baseline", "records.jsonl")
        assert path.read_text() == content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sparsity-gate=fail"], "the gate compared nothing: nothing was tested"),
        (["--sparsity-update"], "nothing was stored in *stored"),
        (
            ["--sparsity-gate=fail", "--sparsity-update-new-only"],
            "the gate compared nothing: nothing was tested",
        ),
    ],
)
def test_nothing_measured_is_not_green(
    pytester: pytest.Pytester, options: list[str], words: str
) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    pytester.mkdir("stored").joinpath("speed.json").write_text('{"schema": 1, "entries": {}}')
    result = pytester.runpytest_inprocess(*options, "--sparsity-baseline=stored")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines([f"ERROR: {words}"])


def test_folders_with_percent_signs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    pytester.mkdir("50%d {x}").joinpath("speed.json").write_text('{"schema": 1, "entries": {}}')
    folder = "--sparsity-baseline=50%d {x}"
    result = pytester.runpytest_inprocess("--sparsity-update", folder, "--sparsity-report=100%s")
    result.stdout.fnmatch_lines(["ERROR: nothing was stored in *50%d {x}"])
    refused = pytester.runpytest_inprocess("--sparsity-gate=fail", "--sparsity-baseline=7%s")
    refused.stderr.fnmatch_lines(["ERROR: --sparsity-baseline: *7%s holds no stored run *"])


def test_settings_of_the_gate(pytester: pytest.Pytester) -> None:
    from pytest_sparsity.plugin.options import read_settings
    from pytest_sparsity.settings.saved import to_json

    given = ["--sparsity-gate=warn", "--sparsity-against=v1", "--sparsity-tolerance=0.05"]
    update = ("--sparsity-sweep", "--sparsity-update", "--sparsity-budgets=x.toml")
    config = pytester.parseconfig(*given, *update)
    settings = read_settings(config)
    assert (settings.gate, settings.against, settings.tolerance) == ("warn", "v1", 0.05)
    assert settings.updating
    assert settings.overrides is None  # it is what is written
    assert not {"gate", "against", "tolerance", "update"} & set(to_json(settings))
    plain = read_settings(pytester.parseconfig("--sparsity-budgets=x.toml"))
    assert plain.overrides == plain.budgets
    (pytester.path / "x.toml").touch()
    new_only = ("--sparsity-sweep", "--sparsity-budgets=x.toml", "--sparsity-update-new-only")
    kept = read_settings(pytester.parseconfig(*new_only))
    assert kept.overrides == kept.budgets
