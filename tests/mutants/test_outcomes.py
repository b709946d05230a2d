"""What is kept of mutants in docs/mutants.json, tried again: a sample."""

from __future__ import annotations

import pytest
from corpus import MUTANTS
from mutation import Mutant
from outcomes import Cell, Outcomes, Row, run

from pytest_sparsity.checking.checks import CHECKS

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


pytestmark = pytest.mark.usefixtures("own_kernels")


def outcomes_of(mutant: Mutant, row: Row) -> Outcomes:
    found = Outcomes({})
    for check, cell in row.items():
        found.put(mutant, check, cell)
    return found


def test_rows_are_of_a_mutant_and_a_group_of_cases() -> None:
    one, other = MUTANTS[:2]
    outcomes = outcomes_of(one, {"edges": Cell("failed", 3, "is off"), "fuzz": Cell("passed", 100)})
    assert outcomes.killers(one) == {"edges"}
    assert not outcomes.complete(one)
    outcomes.put(one, "edges", Cell("passed", 80), "tiles")
    assert outcomes.killers(one, "tiles") == set()
    assert outcomes.row(one)["edges"] == Cell("failed", 3, "is off")
    assert outcomes.row(other) == {}


def test_what_is_known_is_not_run_again() -> None:
    mutant = MUTANTS[0]
    known = dict.fromkeys(CHECKS, Cell("passed", 1))
    assert list(run(outcomes_of(mutant, known), [mutant])) == [(mutant, known)]
    killed = {mutant.killer: Cell("failed", 1)}
    done = list(run(outcomes_of(mutant, killed), [mutant], until_death=True))
    assert done == [(mutant, killed)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bias-in-units-of-scale", "rows-beyond-4-dropped", "reseeded"])
def test_every_check_makes_the_same_of_it_again(name: str) -> None:
    mutant = BY_NAME[name]
    ((_, row),) = run(Outcomes({}), [mutant])
    kept = Outcomes.read().row(mutant)
    assert {check: cell.status for check, cell in row.items()} == {
        check: cell.status for check, cell in kept.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flags-of-16-bits", "tail-of-skipped-tile"])
def test_a_group_of_decisive_cases_decides_again(name: str) -> None:
    mutant = BY_NAME[name]
    ((_, row),) = run(Outcomes({}), [mutant], without=mutant.decisive)
    assert not any(cell.killed for cell in row.values())
