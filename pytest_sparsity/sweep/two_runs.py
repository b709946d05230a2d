"""Two runs, cell by cell: which cells they share, and what changed in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.changes import FROM_DENSE
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import (
    DAMAGE,
    AccuracyComparison,
    judge_change,
    judge_damage,
)
from pytest_sparsity.sweep.renaming import other_name, renamed

Records = Mapping[Cell, Record]


@dataclass(frozen=True)
class TwoRuns:
    """What two runs came to, side by side.

    Attributes:
        comparisons: per cell that both have, dense before sparse: its change, and behind that of
            a sparse one the change of its damage.  Cells are named as in the second run.
        only_before: ids of cells that the first run alone has.
        only_now: ids of cells that the second run alone has.
        names: models that have another name in the second run.
        other_tokens: whether a model of the second run cuts text into other tokens.
    """

    comparisons: tuple[AccuracyComparison, ...]
    only_before: tuple[str, ...]
    only_now: tuple[str, ...]
    names: Mapping[str, str]
    other_tokens: bool


def compare_runs(before: Records, now: Records, *, seed: int) -> TwoRuns:
    """Hold every cell of ``now`` against the same of ``before``; the weights may differ.

    Args:
        before: records of the first run.
        now: records of the second run.
        seed: of the bootstrap.

    Raises:
        SparsityError: no model is in both, and it is not clear which became which.
    """
    models = [{cell.configuration.model for cell in side} for side in (before, now)]
    names = other_name(*models)
    if not names and not models[0] & models[1]:
        first, second = (", ".join(sorted(side)) for side in models)
        raise SparsityError(
            f"A holds {first} and B holds {second}, and it is not clear which became which; "
            "compare runs of one model each"
        )
    was = {own.cell: own for own in (renamed(record, names) for record in before.values())}
    comparisons: list[AccuracyComparison] = []
    for cell in sorted(was.keys() & now.keys(), key=_order):
        if cell.configuration.is_reference and cell.kind in FROM_DENSE:
            continue  # of a dense model such a cell says nothing but how far it is from itself
        change = judge_change(now[cell], was[cell], seed=seed, across=True)
        comparisons.append(change)
        if change.decision is Decision.NOT_COMPARABLE:
            continue
        if cell.dense in was and cell.dense in now:
            damage = judge_damage(now[cell], now[cell.dense], was[cell], was[cell.dense], seed=seed)
            comparisons += [] if damage is None else [damage]
        elif cell.kind not in FROM_DENSE:
            reason = "a run lacks the dense model, so what sparsity costs is not known"
            comparisons.append(
                AccuracyComparison(cell, Decision.NOT_COMPARABLE, reason, part=DAMAGE)
            )
    return TwoRuns(
        tuple(comparisons),
        tuple(cell.id for cell in sorted(was.keys() - now.keys())),
        tuple(cell.id for cell in sorted(now.keys() - was.keys())),
        names,
        any(_tokens(now[cell]) != _tokens(was[cell]) for cell in was.keys() & now.keys()),
    )


def _tokens(record: Record) -> object:
    return record.key.get("tokens")


def _order(cell: Cell) -> tuple[str, str, bool, Cell]:
    configuration = cell.configuration
    return configuration.model, cell.evaluation, not configuration.is_reference, cell
