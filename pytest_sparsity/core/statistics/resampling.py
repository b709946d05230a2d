"""Bootstraps of any figure of several measurements of the same units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pytest_sparsity.core.statistics.interval import (
    Interval,
    Vector,
    checked_confidence,
    effect_per_error,
    unlimited,
)
from pytest_sparsity.core.statistics.looks import level_of_a_look
from pytest_sparsity.core.statistics.means import SMALLEST_BOOTSTRAP, expanded

#: Numbers by draw or unit (rows) and column.
Table = npt.NDArray[np.float64]


def bootstrap(
    groups: Sequence[npt.ArrayLike],
    statistic: Callable[[Sequence[Table]], Vector],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
    looks: int = 1,
) -> Interval:
    """Any figure of several measurements of the same units, with a bootstrap over the units.

    Made for figures that are no ratio of two sums: a ratio of slopes, a crossing, a rank
    correlation over cells.

    Args:
        groups: per group of units (the documents of a corpus, the items of a task) an array
            [units, columns]: what was measured on every unit.  Units are drawn within their
            group, with all their columns, so that what is paired stays paired.
        statistic: from the sums over units, one array [draws, columns] per group, to the figure
            of every draw, [draws]; NaN where a draw does not define it.
        seed: the same seed and data give the same interval.
        resamples: bootstrap samples.
        confidence: in (0, 1).
        looks: at how many amounts of data a verdict may be spoken, see :mod:`.looks`.

    The interval is the percentile one, expanded for small samples as in :func:`paired_mean`:
    unlike BCa it needs no smooth statistic.  A draw that leaves the figure undefined could have
    been anything, and counts as below the lower end and above the upper one.

    Raises:
        ValueError: there is no group, or one is empty, not finite or of another shape.
    """
    level = level_of_a_look(checked_confidence(confidence), looks)
    if not len(groups):
        raise ValueError("groups must not be empty")
    tables = [_table(f"groups[{place}]", group) for place, group in enumerate(groups)]
    n, fewest = sum(map(len, tables)), min(map(len, tables))
    with np.errstate(all="ignore"):
        estimate = float(statistic([table.sum(axis=0, keepdims=True) for table in tables])[0])
        if fewest < SMALLEST_BOOTSTRAP:
            note = f"no limits: {fewest} are too few for a bootstrap"
            return unlimited(estimate, n, confidence, looks, note)
        rng = np.random.default_rng(seed)
        drawn = statistic([_drawn_sums(table, resamples, rng) for table in tables])
    tail = (1 - expanded(level, fewest)) / 2
    undefined = np.isnan(drawn)
    low = np.quantile(np.where(undefined, -math.inf, drawn), tail, method="lower")
    high = np.quantile(np.where(undefined, math.inf, drawn), 1 - tail, method="higher")
    certain = bool(np.isfinite(drawn).all())
    detectable = effect_per_error() * float(drawn.std()) if certain else math.inf
    note = (
        f"{int(undefined.sum())} of {resamples} draws do not define it" if undefined.any() else ""
    )
    return Interval(estimate, float(low), float(high), n, confidence, detectable, note, looks)


def _drawn_sums(table: Table, resamples: int, rng: np.random.Generator) -> Table:
    """Sums over units drawn with replacement, [resamples, columns]."""
    n = len(table)
    batches = [min(256, resamples - start) for start in range(0, resamples, 256)]
    return np.concatenate([table[rng.integers(0, n, (size, n))].sum(axis=1) for size in batches])


def _table(name: str, values: npt.ArrayLike) -> Table:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} must be a non-empty [units, columns], its shape is {table.shape}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"{name} must be finite, at [{row}, {column}] it is {table[row, column]}")
    return table
