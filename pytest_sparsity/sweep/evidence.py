"""What speaks against the decisions of a run, per document or item; see :mod:`.family`."""

from __future__ import annotations

import numpy as np

from pytest_sparsity.core.statistics import Bounds, Influence
from pytest_sparsity.core.statistics.family import LOST_AND_WON, Evidence
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.metric import DIFFERENCE, SHARE

#: Metrics of items that are right or wrong.
RIGHT_OR_WRONG = ("accuracy", "exact_match", "answer_greedy")


def against_budget(cell: Cell, budget: Budget, found: Influence, looks: int) -> Evidence:
    """That a metric of ``cell`` is beyond its budget.

    Args:
        cell: what was measured.
        budget: of one of its metrics.
        found: what every unit adds to that metric.
        looks: how many were planned.
    """
    name = budget.metric.partition(":")[0]
    counted, bounds = name in RIGHT_OR_WRONG, SHARE if name == "path" else None
    id = f"{cell.id} {budget.metric}"
    return beyond(id, cell.subject, found, budget.limit, budget.is_minimum, counted, bounds, looks)


def beyond(
    id: str,
    sample: str,
    found: Influence,
    limit: float,
    is_minimum: bool = False,
    counted: bool = False,
    bounds: Bounds | None = None,
    looks: int = 1,
) -> Evidence:
    """That an estimate is above ``limit``, or below it where that is a minimum.

    Args:
        id: of the decision.
        sample: name of the corpus or task.
        found: what every unit adds to the estimate.
        limit: that the decision holds it against.
        is_minimum: whether what is below the limit is wrong.
        counted: whether units are right or wrong.
        bounds: of what a unit can be; None if there are none, or if they are counted.
        looks: how many were planned.
    """
    sign = -1.0 if is_minimum else 1.0
    each = sign * (found.estimate - limit + len(found.units) * np.asarray(found.values))
    added = [value - limit for value in LOST_AND_WON] if counted else []
    if not np.isfinite(each).all():  # a ratio to nothing: it says nothing for or against
        return Evidence(id, 1.0, looks=looks)
    excess = dict(zip(map(str, found.units), each.tolist(), strict=True))
    possible = DIFFERENCE if counted else bounds
    if possible is not None:
        low, high = sorted(sign * (bound - limit) for bound in possible)
        possible = (low, high) if low < 0 < high else None
    return Evidence.of_units(id, sample, excess, added=added, bounds=possible, looks=looks)
