"""Failures that need earlier cases: those are named, and the line to reproduce has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.checking import api
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.dependence import after_others
from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import check_kernel

FILE = Path(__file__).with_name("stateful.py")
CASES = tuple(Case(1, k, 1) for k in range(1, 21))


@pytest.fixture(autouse=True)
def _stateful_kernels(own_kernels: None) -> None:
    api._import(str(FILE))


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


def failed(case: Case, after: Sequence[Case] = ()) -> CheckResult:
    return CheckResult(
        "op/k", "edges", "failed", "is off", case, begun=CASES[:15], after=tuple(after)
    )


def test_one_earlier_case_is_found() -> None:
    tried = []

    def fails(case: Case, after: Sequence[Case]) -> CheckResult | None:
        tried.append(len(after))
        return failed(case, after) if CASES[6] in after else None

    found = after_others(failed(CASES[14]), fails)
    assert found.after == (CASES[6],)
    assert found.case == CASES[14]
    assert found.message == "is off, after another case: by itself the case passes"
    assert tried == [14, 7, 11, 9, 8, 1]


def test_several_earlier_cases_are_kept() -> None:
    def fails(case: Case, after: Sequence[Case]) -> CheckResult | None:
        return failed(case, after) if {CASES[6], CASES[9]} <= set(after) else None

    found = after_others(failed(CASES[14]), fails)
    assert found.after == CASES[6:14]
    assert found.message == "is off, after 8 others: by itself the case passes"


def test_what_fails_by_itself_before_it_is_shrunk_needs_no_others() -> None:
    def fails(case: Case, after: Sequence[Case]) -> CheckResult | None:
        return replace(failed(case, after), message="is far off") if case == CASES[14] else None

    found = after_others(failed(CASES[2]), fails)
    assert (found.message, found.case, found.after) == ("is far off", CASES[14], ())


def test_what_does_not_come_again_says_so() -> None:
    found = after_others(failed(CASES[14]), lambda case, after: None)
    assert found.after == ()
    assert found.message.startswith("is off, though not when a new process runs the same cases")


@pytest.mark.slow
def test_a_kernel_that_needs_an_earlier_case(pool: Pool) -> None:
    kernel = registry.kernel("sparse_linear/wrong-after-five-rows")
    found = pool.run_check(kernel, "edges", 100, 0, modules=(str(FILE),))
    assert found.status == "failed"
    assert [case.rows for case in found.after] == [5]
    assert found.case is not None
    assert found.case.rows == 2
    assert "after another case: by itself the case passes" in found.message
    line = api.told(kernel, found)
    assert f"  after      {found.after[0]}\n  case       {found.case}\n" in line
    with pytest.raises(api.KernelFailure, match="is off"):
        exec(line.partition("  reproduce  ")[2], {})
    assert pool.run_check(kernel, "edges", 100, 0, found.case).status == "passed"


@pytest.mark.slow
def test_a_kernel_that_goes_on_as_it_began(pool: Pool) -> None:
    kernel = registry.kernel("sparse_linear/keeps-its-first-dtype")
    found = pool.run_check(kernel, "edges", 100, 0, modules=(str(FILE),))
    assert found.status == "failed"
    assert found.case is not None
    assert [case.dtype != found.case.dtype for case in found.after] == [True]
    assert "after another case: by itself the case passes" in found.message


@pytest.mark.slow
def test_a_kernel_that_is_worn_out(pool: Pool) -> None:
    kernel = registry.kernel("sparse_linear/wrong-in-the-end")
    assert pool.run_check(kernel, "edges", 5, 0).status == "passed"  # 20 cases
    found = pool.run_check(kernel, "edges", 5, 0)
    assert "depends on what was checked before, or is left to chance" in found.message


def test_after_goes_with_a_case() -> None:
    with pytest.raises(SparsityError, match="after= goes with case="):
        check_kernel("sparse_linear/reseeds", "edges", after=["rows=1 k=1 n=1"])
