"""Shares of items right, of one model or of two on the same items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics import bounded
from pytest_sparsity.core.statistics.interval import (
    Interval,
    checked_confidence,
    width_detectable,
)
from pytest_sparsity.core.statistics.looks import level_of_a_look


def proportion(k: int, n: int, *, confidence: float = 0.95, looks: int = 1) -> Interval:
    """Share k of n, with the exact interval of Clopper & Pearson (1934).

    Wilson's is narrower, but of 12 items of which one in a hundred is right it misses the truth
    twice as often as it says.

    Raises:
        ValueError: n is not positive or k is not within 0..n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= k <= n:
        raise ValueError(f"k must be within 0..{n}, not {k}")
    level = level_of_a_look(checked_confidence(confidence), looks)
    low, high = bounded.share_limits(k, n, level)
    return Interval(
        k / n, low, high, n, confidence, width_detectable(low, high, level), looks=looks
    )


def paired_proportion(
    dense: Sequence[bool],
    sparse: Sequence[bool],
    *,
    confidence: float = 0.95,
    looks: int = 1,
) -> Interval:
    """Drop in accuracy p(dense) - p(sparse) on the same items; positive means worse.

    The interval is exact: neither limit errs more often than it says, however few items differ,
    see :mod:`.bounded`.

    Raises:
        ValueError: the two sequences are empty or differ in length.
    """
    both, dense_only, sparse_only, neither = _pairs(dense, sparse)
    n = both + dense_only + sparse_only + neither
    level = level_of_a_look(checked_confidence(confidence), looks)
    low, high = bounded.difference_limits(dense_only, sparse_only, n, level)
    drop = (dense_only - sparse_only) / n
    detectable = width_detectable(low, high, level)
    return Interval(drop, low, high, n, confidence, detectable, looks=looks)


def mcnemar(dense: Sequence[bool], sparse: Sequence[bool]) -> float:
    """Two-sided p-value of McNemar's exact test: are the two equally often right?

    Only items on which exactly one of the two is right count; with none there is no evidence
    against equality and p is 1.

    Raises:
        ValueError: the two sequences are empty or differ in length.
    """
    _, dense_only, sparse_only, _ = _pairs(dense, sparse)
    discordant = dense_only + sparse_only
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(dense_only, discordant, 0.5).pvalue)


def _pairs(dense: Sequence[bool], sparse: Sequence[bool]) -> tuple[int, int, int, int]:
    """Items both have right, only dense, only sparse, neither."""
    if len(dense) != len(sparse):
        raise ValueError(
            f"dense and sparse must be about the same items, not {len(dense)} and {len(sparse)}"
        )
    if not len(dense):
        raise ValueError("dense and sparse must not be empty")
    a, b = np.asarray(dense, dtype=bool), np.asarray(sparse, dtype=bool)
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
