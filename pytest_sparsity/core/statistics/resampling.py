"""Bootstraps of any figure of several measurements of the same units, and rank correlations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from pytest_sparsity.core.statistics.intervals import (
    SMALLEST_BOOTSTRAP,
    Interval,
    Vector,
    as_vector,
    checked_confidence,
    effect_per_error,
    expanded,
)

#: Numbers by draw or unit (rows) and column.
Table = npt.NDArray[np.float64]


def bootstrap(
    groups: Sequence[npt.ArrayLike],
    statistic: Callable[[Sequence[Table]], Vector],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
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

    The interval is the percentile one, expanded for small samples as in :func:`paired_mean`:
    unlike BCa it needs no smooth statistic.  A draw that leaves the figure undefined could have
    been anything, and counts as below the lower end and above the upper one.

    Raises:
        ValueError: there is no group, or one is empty, not finite or of another shape.
    """
    checked_confidence(confidence)
    if not len(groups):
        raise ValueError("groups must not be empty")
    tables = [_table(f"groups[{place}]", group) for place, group in enumerate(groups)]
    n, fewest = sum(map(len, tables)), min(map(len, tables))
    with np.errstate(all="ignore"):
        estimate = float(statistic([table.sum(axis=0, keepdims=True) for table in tables])[0])
        if fewest < SMALLEST_BOOTSTRAP:
            note = f"no limits: {fewest} are too few for a bootstrap"
            return Interval(estimate, -math.inf, math.inf, n, confidence, math.inf, note)
        rng = np.random.default_rng(seed)
        drawn = statistic([_drawn_sums(table, resamples, rng) for table in tables])
    tail = (1 - expanded(confidence, fewest)) / 2
    undefined = np.isnan(drawn)
    low = np.quantile(np.where(undefined, -math.inf, drawn), tail, method="lower")
    high = np.quantile(np.where(undefined, math.inf, drawn), 1 - tail, method="higher")
    certain = bool(np.isfinite(drawn).all())
    detectable = effect_per_error() * float(drawn.std()) if certain else math.inf
    note = (
        f"{int(undefined.sum())} of {resamples} draws do not define it" if undefined.any() else ""
    )
    return Interval(estimate, float(low), float(high), n, confidence, detectable, note)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> Vector:
    """Spearman's rank correlation over the last axis; ties have the mean of their ranks.

    NaN where one of the two is constant: it then has no order to agree with.
    """
    ranks = (stats.rankdata(values, axis=-1) for values in np.broadcast_arrays(x, y))
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        found = (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return np.asarray(found)


def rank_correlation(
    x: Sequence[float] | Vector,
    groups: Sequence[npt.ArrayLike],
    y: Callable[[Sequence[Table]], Table],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Spearman's correlation of ``x`` with a figure of the same cells that is itself uncertain.

    Args:
        x: one value per cell, taken as known.
        groups: as for :func:`bootstrap`.
        y: from the sums over units to the figure of every draw and cell, [draws, cells].
        seed: as for :func:`bootstrap`.
        resamples: as for :func:`bootstrap`.
        confidence: as for :func:`bootstrap`.

    Noise in ``y`` pulls a rank correlation towards 0, and drawing adds noise: the interval is too
    cautious rather than too sure that there is a correlation.  It always holds the estimate.

    Raises:
        ValueError: as for :func:`bootstrap`.
    """
    cells = as_vector("x", x)
    found = bootstrap(
        groups,
        lambda sums: spearman(cells, y(sums)),
        seed=seed,
        resamples=resamples,
        confidence=confidence,
    )
    low, high = max(found.low, -1.0), min(found.high, 1.0)
    if not math.isnan(found.estimate):
        low, high = min(low, found.estimate), max(high, found.estimate)
    return replace(found, low=low, high=high)


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
