"""The rank correlation of cells that rest on the same units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from pytest_sparsity.core.statistics.interval import (
    Interval,
    Vector,
    as_vector,
    checked_confidence,
    effect_per_error,
)
from pytest_sparsity.core.statistics.orders import PossibleOrders, spearman
from pytest_sparsity.core.statistics.resampling import (
    SMALLEST_BOOTSTRAP,
    Table,
    as_table,
    drawn_sums,
    expanded,
)


def rank_correlation(
    x: Sequence[float] | Vector,
    groups: Sequence[npt.ArrayLike],
    y: Callable[[Sequence[Table]], Table],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Spearman's correlation of ``x`` with a figure of the same cells that is itself uncertain.

    Args:
        x: one value per cell, taken as known.
        groups: as for :func:`bootstrap`: what was measured on every unit, in one row for all
            cells, so that cells that rest on the same units are drawn with the same units.
        y: from the sums over units to the figure of every draw and cell, [draws, cells].
        seed: as for :func:`bootstrap`.
        resamples: as for :func:`bootstrap`.
        confidence: as for :func:`bootstrap`.

    The interval is from the smallest to the largest correlation of all orders of the cells that
    the data do not rule out (:class:`.PossibleOrders`): a set of orders that holds the true one
    with this confidence.  What is computed from such a set holds with it, too (for ranks: Mogstad,
    Romano, Shaikh & Wilhelm 2024, "Inference for ranks with applications to mobility across
    neighbourhoods and academic achievement across countries", Review of Economic Studies
    91:476-518).

    Quantiles of the draws' correlations would not do: noise takes cells out of their order, draws
    have it twice, and so they are too near 0.  Where eight cells are in order, but by little, such
    an interval holds the truth once in three times (``tests/statistics/coverage_of_ranks.py``).

    Raises:
        ValueError: as for :func:`bootstrap`.
    """
    checked_confidence(confidence)
    cells = as_vector("x", x)
    if not len(groups):
        raise ValueError("groups must not be empty")
    tables = [as_table(f"groups[{place}]", group) for place, group in enumerate(groups)]
    n, fewest = sum(map(len, tables)), min(map(len, tables))
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        found = np.asarray(y([table.sum(axis=0, keepdims=True) for table in tables]))[0]
        estimate = float(spearman(cells, found))

        def unlimited(note: str) -> Interval:
            note = f"no limits: {note}"
            return Interval(estimate, -1.0, 1.0, n, confidence, math.inf, note)

        if fewest < SMALLEST_BOOTSTRAP:
            return unlimited(f"{fewest} are too few for a bootstrap")
        if math.isnan(estimate):
            return unlimited("all cells are equal and have no order")
        drawn = np.asarray(y(drawn_sums(tables, seed=seed, resamples=resamples)))
    defined = np.isfinite(drawn).all(axis=1)
    # A draw that leaves a cell undefined could have been anywhere: the order in it is ruled out.
    undefined = 1 - float(defined.mean())
    of_y = 1 - expanded(confidence, fewest) - undefined
    if of_y <= 0:
        return unlimited(f"{int((~defined).sum())} of {resamples} draws do not define it")
    possible = PossibleOrders(found, np.atleast_2d(np.cov(drawn[defined], rowvar=False)), of_y)
    low, high = possible.correlations(cells, rng)
    low, high = min(low, estimate), max(high, estimate)
    spread = (high - low) / (2 * float(stats.norm.isf((1 - confidence) / 2)))
    return Interval(estimate, low, high, n, confidence, effect_per_error() * spread)
