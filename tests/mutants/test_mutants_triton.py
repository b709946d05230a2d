"""The suite, at its default number of examples, finds every mutant in Triton."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from corpus import MUTANTS
from mutation import Mutant

from pytest_sparsity.checking.runner import CheckResult

OWN = [mutant for mutant in MUTANTS if mutant.backend == "triton"]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", OWN, ids=lambda mutant: mutant.name)
def test_is_killed(mutant: Mutant, killed: Callable[[Mutant], CheckResult]) -> None:
    # No mutant loops for ever: to call one hanging is a false alarm.
    assert not killed(mutant).message.startswith("hung")
