"""Rank correlations, of what is known and of what is itself uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from pytest_sparsity.core.statistics.interval import Interval, Vector, as_vector
from pytest_sparsity.core.statistics.resampling import Table, bootstrap


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
    resamples: int = 10_000,
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
