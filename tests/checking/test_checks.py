"""Every check finds what it is there for, with the smallest case and a line that shows it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.checking import api, runner
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import KernelFailure, check_kernel

WRONG = Path(__file__).with_name("wrong.py")
#: Checks of kernels as they run on the CPU; the others are about Triton and CUDA.
HERE = [name for name in CHECKS if name not in ("contract", "work", "compile")]


@pytest.fixture(autouse=True)
def _wrong_kernels(own_kernels: None) -> None:
    api._import(str(WRONG))


def failure(name: str, check: str, **given: object) -> KernelFailure:
    with pytest.raises(KernelFailure) as caught:
        check_kernel(f"sparse_linear/{name}", check, processes=False, **given)  # type: ignore[arg-type]
    return caught.value


def test_a_right_kernel_passes_every_check() -> None:
    report = check_kernel("sparse_linear/right", HERE, processes=False, examples=10)
    assert [outcome.status for outcome in report.outcomes] == ["passed"] * len(HERE)
    by_name = {outcome.check: outcome for outcome in report.outcomes}
    assert by_name["fuzz"].examples == 10
    assert 0 < by_name["fuzz"].tolerance <= 1
    assert by_name["exact"].tolerance == 0
    assert "  fuzz        passed: 10 cases, tolerance used" in str(report)


@pytest.mark.parametrize(
    ("name", "check", "message", "largest"),
    [
        ("not-strict", "edges", "is off", 7),
        ("not-strict", "fuzz", "is off", 3),
        ("last-channel", "edges", "is off", 1),
        ("last-channel", "exact", "is not exact", 1),
        ("no-bias", "fuzz", "is off", 1),
        ("no-bias", "ends", "is off", 1),
        ("half-sums", "fuzz", "is off", 20),
        ("half-sums", "exact", "is not exact", 640),
        ("first-rows-mask", "batch", "is off with 2 rows at once", 2),
        ("stale-buffer", "inputs", "changed its first result when it was called again", 1),
        ("in-place", "inputs", "changed its operand x", 1),
        ("no-pitch", "layouts", "is off", 2),
        ("nan-dropped", "edges", "is off", 4),
        ("nan-dropped", "fuzz", "is off", 1),
        ("one-percent", "fuzz", "is off", 2),
        ("last-bit", "exact", "is not exact", 1),
        ("hidden-constant", "scaling", "does not give 2^-3 times the result", 8),
        ("last-channel", "splitting", "do not add up to the result of all", 8),
        ("nan-of-one", "splitting", "for channels: those before 1", 8),
        ("last-channel", "permutation", "the same channels in another order", 3),
        ("bias-off-by-a-bit", "ends", "is not exactly the bias", 1),
        ("unsteady", "repeat", "is declared deterministic and gives another", 2048),
        ("multiplies-by-zero", "unread", "depends on weights that are not needed", 1),
        ("writes-past", "bounds", "past the end of the float32 tensor", 1),
        ("reads-beside", "bounds", "is off with NaN around its operands", 1),
        ("raises", "fuzz", "raised RuntimeError: no tile fits", 5),
        ("one-row", "batch", "returned the shape (1, 1), not (2, 1)", 2),
        ("nothing", "fuzz", "returned NoneType, not a tensor", 1),
        ("other-dtype", "fuzz", "dtype torch.float32, not torch.bfloat16", 1),
    ],
)
def test_finds(
    name: str, check: str, message: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = failure(name, check)
    assert str(found).startswith(f"sparse_linear/{name} fails the check {check!r}: ")
    assert message in str(found)
    case = found.outcome.case
    assert case is not None
    assert max(case.rows, case.k, case.n) <= largest
    assert f"  case       {case}\n" in str(found)

    # The line that is printed, without the time that a process takes.
    monkeypatch.setattr(api, "_pool", lambda: InProcess)
    line = str(found).partition("  reproduce  ")[2]
    assert "\n" not in line
    with pytest.raises(KernelFailure) as again:
        exec(line, {})
    assert again.value.outcome.case == case
    if name != "unsteady":
        # By text: NaN is not equal to NaN.
        assert repr(again.value.outcome.element) == repr(found.outcome.element)


class InProcess:
    """In place of the pool of processes."""

    @staticmethod
    def run_check(
        *what: Any, case: Case | None, modules: object, after: Sequence[Case]
    ) -> runner.CheckResult:
        return runner.run(*what, case=case, after=after)


def test_message() -> None:
    found = failure("no-bias", "fuzz", seed=3)
    assert found.outcome.element is not None
    where = os.path.relpath(WRONG) if not os.path.relpath(WRONG).startswith("..") else str(WRONG)
    case = "rows=1 k=1 n=1 dtype=float32 level=0.5 bias=yes seed="
    lines = str(found).splitlines()
    assert lines[0] == "sparse_linear/no-bias fails the check 'fuzz': is off at 1 of 1 elements"
    assert lines[1].startswith("  worst      output[0, 0] is 0, should be ")
    assert ": error " in lines[1]
    assert ", bound " in lines[1]
    assert lines[1].endswith(" times the bound")
    assert lines[2].startswith(f"  case       {case}")
    assert lines[3].startswith(
        "  reproduce  from pytest_sparsity.testing import check_kernel; "
        f'check_kernel("sparse_linear/no-bias", "fuzz", case="{case}'
    )
    assert lines[3].endswith(f", module={where!r})")


@pytest.mark.slow
def test_the_line_works_in_a_process_of_its_own() -> None:
    line = str(failure("last-channel", "fuzz")).partition("  reproduce  ")[2]
    with pytest.raises(KernelFailure, match=r"is off at 1 of [12] elements"):
        exec(line, {})


def test_a_module_of_the_folder_one_is_in_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the processes that check were started."""
    monkeypatch.chdir(tmp_path)
    check_kernel("compact/torch", "bounds", examples=2)
    monkeypatch.chdir(WRONG.parent)
    check_kernel("sparse_linear/right", "bounds", examples=2, module=WRONG.name)


def test_too_many_rows_may_be_refused() -> None:
    for check in ("batch", "fuzz"):
        check_kernel("sparse_linear/refuses-rows", check, processes=False, examples=40)


def test_the_same_seed_draws_the_same_cases() -> None:
    drawn: list[list[Case]] = []
    for seed in (0, 0, 1):
        cases: list[Case] = []
        kernel = registry.kernel("sparse_linear/right")
        outcome = runner.run(kernel, "fuzz", 20, seed, on_case=cases.append)
        assert outcome.examples == len(cases) == 20
        drawn.append(cases)
    assert drawn[0] == drawn[1] != drawn[2]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    failure("no-bias", "fuzz")
    assert capfd.readouterr() == ("", "")


def test_skipped() -> None:
    report = check_kernel("sparse_linear/absent", "fuzz", processes=False)
    assert str(report) == "sparse_linear/absent\n  fuzz        skipped: no such hardware here"
    report = check_kernel("sparse_linear/torch", "unread", processes=False)
    assert report.outcomes[0].message == (
        "unread is for kernels declared to skip, of ops that say what must be read"
    )


def test_a_function_can_be_named() -> None:
    function = registry.kernel("sparse_linear/right").call
    assert check_kernel(function, "ends", processes=False, examples=3).kernel.endswith("/right")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checks": "fuz"}, "there is no check 'fuz'; use one of edges, fuzz"),
        ({"checks": []}, "checks is empty"),
        ({"kernel": "sparse_linear/none"}, "there is no kernel 'sparse_linear/none'"),
        ({"kernel": len}, "len is not a kernel: decorate it with @sparse_kernel"),
        ({"examples": 0}, "examples=0: give at least 1"),
        ({"case": "rows=9 k=1 n=1"}, "none of sparse_linear: x must have 1 to 8 rows, not 9"),
        ({"case": "rows=1"}, "case: k=0: give at least 1"),
        ({"case": "rows=1 k=1 n=1", "checks": "exact"}, "exact needs values=integer"),
        ({"module": "no/such.py"}, "module='no/such.py': there is no such file"),
    ],
)
def test_mistakes(given: dict[str, object], message: str) -> None:
    arguments = {"kernel": "sparse_linear/right", "checks": "fuzz", "processes": False} | given
    with pytest.raises(SparsityError, match=message.replace("(", r"\(")):
        check_kernel(**arguments)  # type: ignore[arg-type]
