"""The kernel suite as an author of another library runs it."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

CONFTEST = """
from pytest_sparsity.testing import sparse_kernel

@sparse_kernel(op="sparse_linear", backend="cpu", name="mine", skips=False)
def right(x, weight, threshold, bias=None):
    import torch
    kept = x * ~(x.abs() <= torch.tensor(threshold, dtype=x.dtype))
    y = kept.float() @ weight.float().T
    return (y if bias is None else y + bias.float()).to(x.dtype)
"""
WRONG = CONFTEST.replace("~(x.abs() <= ", "(x.abs() >= ")
KERNELS = ("--sparsity-sweep", "--sparsity-suite=kernels", "--sparsity-examples=20")


def told(pytester: pytest.Pytester) -> list[dict[str, object]]:
    lines = (pytester.path / "sparsity-report" / "kernels.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_right_kernel_passes_without_a_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_subprocess(*KERNELS, "-k", "mine and not repeat")
    result.assert_outcomes(passed=13, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*sparsity kernels*", "sparse_linear/mine*13 of 13*%*"])
    assert "smollm2" not in result.stdout.str()  # no model is looked for
    lines = told(pytester)
    assert {line["check"] for line in lines} >= {"fuzz", "edges", "bounds", "batch"}
    assert all(
        line["status"] == "passed" and line["kernel"] == "sparse_linear/mine" for line in lines
    )
    assert all(0 < line["tolerance"] <= 1 for line in lines if line["check"] == "fuzz")


def test_a_wrong_kernel_fails_with_its_smallest_case(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WRONG)
    result = pytester.runpytest_subprocess(*KERNELS, "-k", "mine-fuzz or mine-inputs")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "sparse_linear/mine fails the check 'fuzz': is off *",
            "  worst      output[[]*[]] is *, should be *: error *, bound *",
            "  case       rows=* k=* n=* dtype=float32 level=* seed=*",
            "  reproduce  from pytest_sparsity.testing import check_kernel; check_kernel("
            '"sparse_linear/mine", "fuzz", case="rows=*", module=\'conftest.py\')',
            "sparse_linear/mine*FAILED fuzz*",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    line = next(line for line in result.outlines if line.startswith("  reproduce  "))
    again = pytester.runpython_c(line.removeprefix("  reproduce  "))
    assert again.ret == 1
    again.stderr.fnmatch_lines(["*KernelFailure: sparse_linear/mine fails the check 'fuzz'*"])
    assert {line["status"] for line in told(pytester)} >= {"failed"}


def test_the_fixture_in_a_test_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import conftest, pytest

        def test_mine(kernel_check):
            report = kernel_check(conftest.right, ["fuzz", "ends"], examples=15)
            assert [o.examples for o in report.outcomes] == [15, 15]

        def test_unknown(kernel_check):
            kernel_check("sparse_linear/nobody")

        def test_no_such_check(kernel_check):
            kernel_check("sparse_linear/mine", "luck")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "SparsityError: there is no kernel 'sparse_linear/nobody'; registered are *",
            "SparsityError: there is no check 'luck'; use one of edges, fuzz, *",
        ]
    )


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('op="sparse_conv", backend="cpu"', "there is no such op; use one of sparse_linear, "),
        ('op="sparse_linear", backend="torch"', "sparse_linear/torch is registered twice, in "),
        ('op="compact", backend="cpu", products="fp8"', "products='fp8'): use operand or tf32"),
        ('op="compact", backend="cpu", dtypes=("int8",)', "dtypes='int8'): use one of float32, "),
    ],
)
def test_a_registration_that_cannot_be(
    pytester: pytest.Pytester, declared: str, message: str
) -> None:
    pytester.makepyfile(
        registering=f"""
        from pytest_sparsity.testing import sparse_kernel

        @sparse_kernel({declared})
        def mine(x, **operands): ...
        """
    )
    result = pytester.runpython_c(
        "from pytest_sparsity.kernels.registry import registered; registered(); import registering"
    )
    assert result.ret == 1
    assert message in result.stderr.str()


def test_nothing_checked_is_not_green(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONFTEST.replace("skips=False", 'skips=False, unavailable=lambda: "it needs a loom"')
    )
    result = pytester.runpytest_subprocess(*KERNELS, "-rs", "-k", "mine-fuzz")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["*ERROR: the sweep checked no kernel: nothing was tested", "*SKIPPED*it needs a loom"]
    )
    strict = pytester.runpytest_subprocess(*KERNELS, "--sparsity-strict", "-k", "mine-fuzz")
    assert strict.ret == pytest.ExitCode.TESTS_FAILED
    strict.stdout.fnmatch_lines(["--sparsity-strict: *it needs a loom*"])


def test_two_processes_tell_all(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_subprocess(*KERNELS, "-n", "2", "-k", "mine and not repeat")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["sparse_linear/mine*13 of 13*"])
    assert len(told(pytester)) == 13
