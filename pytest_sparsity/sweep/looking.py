"""Verdicts at a look: over the first documents or items, however many more others have drawn.

A look is an amount of data at which a verdict may be spoken: the first amount of the profile, and
whole multiples of it.  Records are shared: one cell may have drawn more of another's.  What a
verdict is spoken over must not hang on that, or it would be looked at more often than planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_sparsity.settings.settings import Sizes
from pytest_sparsity.sweep.budgets import Budgets
from pytest_sparsity.sweep.cell import GENERATION, Cell
from pytest_sparsity.sweep.comparison import Comparison, compare
from pytest_sparsity.sweep.evidence import against_budget
from pytest_sparsity.sweep.influences import influences
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.verdict import Outcome, Verdict, judge


@dataclass(frozen=True)
class Measured:
    """What the verdicts on a cell are made of.

    Attributes:
        own: the cell's record.
        dense: the same evaluation of the dense model; ``own`` itself if it is that.
        off: the same with SPON off, if ``own`` has it on.
    """

    own: Record
    dense: Record
    off: Record | None


def seen(record: Record, look: int, sizes: Sizes) -> Record:
    """What of a record is seen at a look, from 1; generation is always measured whole."""
    if record.cell.kind == GENERATION:
        return record
    return record.first(record.cell.units(sizes) * look)


def verdicts_at(
    look: int, looks: int, measured: Measured, budgets: Budgets, sizes: Sizes, *, seed: int,
    level: float,
) -> list[Verdict]:  # fmt: skip
    """Verdicts over what is seen at a look.

    Of the dense model as much is seen, and as much more as it takes to find it better than
    guessing, as its own verdict does.

    Args:
        look: from 1.
        looks: how many are planned.
        measured: the records.
        budgets: in force.
        sizes: the amounts of data.
        seed: of the bootstrap.
        level: the largest p at which a verdict fails whatever others of the run say.
    """
    own, last = seen(measured.own, look, sizes), len(measured.dense.units)
    verdicts: list[Verdict] = []
    for further in range(look, sizes.draws + 1):
        at = Measured(own, seen(measured.dense, further, sizes), measured.off)
        found = compare(at.own, at.dense, at.off, seed=seed, looks=looks)
        verdicts = _held(found, at, budgets, looks, level)
        alone = own.cell.configuration.is_reference or len(at.dense.units) == last
        if alone or not refused(verdicts):
            break
    return [replace(verdict, look=look) for verdict in verdicts]


def refused(verdicts: Sequence[Verdict]) -> bool:
    """Whether the dense model is no better than guessing, as far as it was seen."""
    return any(verdict.outcome is Outcome.REFUSED for verdict in verdicts)


def undecided(cell: Cell, verdicts: Sequence[Verdict]) -> bool:
    """Whether more data about ``cell`` could change its verdicts."""
    if cell.configuration.is_reference and refused(verdicts):
        return True
    return any(v.outcome in (Outcome.INCONCLUSIVE, Outcome.SUSPECT) for v in verdicts)


def _held(
    found: Sequence[Comparison], measured: Measured, budgets: Budgets, looks: int, level: float
) -> list[Verdict]:
    """Each metric against its budget, with what speaks against it."""
    limits = [budgets.find(each.cell.configuration, each.metric) for each in found]
    if not any(limits):
        return [judge(comparison, None) for comparison in found]
    of_units = influences(measured.own, measured.dense, measured.off)
    verdicts = []
    for comparison, budget in zip(found, limits, strict=True):
        against = None
        if budget is not None:
            each = of_units[comparison.metric]
            against = against_budget(comparison.cell, budget, each, looks)
        verdicts.append(judge(comparison, budget, against, level))
    return verdicts
