"""Right kernels in CUDA C++ pass every check without a GPU, and mutants of them are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mutants_cuda import MUTANTS
from mutation import Mutant

from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.testing import CHECKS, check_kernel

RIGHT = Path(__file__).parent / "cuda_right" / "sparse_linear.py"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_is_killed(mutant: Mutant, killed: Callable[[Mutant], CheckResult]) -> None:
    assert not killed(mutant).message.startswith("hung")


def test_every_mutant_has_a_class_of_its_own() -> None:
    assert len(MUTANTS) >= 15
    assert len({mutant.kind for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warp", "tiled", "split", "pairs"])
def test_right_kernels_pass(name: str, own_kernels: None) -> None:
    report = check_kernel(f"sparse_linear/{name}", module=str(RIGHT))
    skipped = {outcome.check for outcome in report.outcomes if outcome.status == "skipped"}
    assert skipped <= {"contract", "scaling", "compile"}


@pytest.mark.parametrize("kernel", ["sparse_linear/cuda", "sparse_swiglu/cuda"])
def test_our_kernels_are_emulated(kernel: str) -> None:
    """With few examples; the suite of kernels goes through all."""
    names = [name for name in CHECKS if name not in ("compile", "edges", "contract")]
    report = check_kernel(kernel, names, examples=2)
    reasons = {outcome.check: outcome.message for outcome in report.outcomes}
    assert all(outcome.status == "passed" for outcome in report.outcomes), reasons
