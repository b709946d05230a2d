"""Shares of items right, of one model or of two on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics.interval import (
    Interval,
    checked_confidence,
    effect_per_error,
)
from pytest_sparsity.core.statistics.looks import level_of_a_look


def proportion(k: int, n: int, *, confidence: float = 0.95, looks: int = 1) -> Interval:
    """Share k of n, with the Wilson score interval (Wilson 1927).

    Raises:
        ValueError: n is not positive or k is not within 0..n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= k <= n:
        raise ValueError(f"k must be within 0..{n}, not {k}")
    level = level_of_a_look(checked_confidence(confidence), looks)
    low, high = _wilson(k, n, level)
    return Interval(k / n, low, high, n, confidence, _detectable(low, high, level), looks=looks)


def paired_proportion(
    dense: Sequence[bool],
    sparse: Sequence[bool],
    *,
    confidence: float = 0.95,
    looks: int = 1,
) -> Interval:
    """Drop in accuracy p(dense) - p(sparse) on the same items; positive means worse.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17:2635-2650, method 10: the Wilson
    limits of both shares, combined with the correlation of the pairs.

    Raises:
        ValueError: the two sequences are empty or differ in length.
    """
    both, dense_only, sparse_only, neither = _pairs(dense, sparse)
    n = both + dense_only + sparse_only + neither
    right_dense, right_sparse = both + dense_only, both + sparse_only
    p, q = right_dense / n, right_sparse / n
    level = level_of_a_look(checked_confidence(confidence), looks)
    low_p, high_p = _wilson(right_dense, n, level)
    low_q, high_q = _wilson(right_sparse, n, level)

    # The correlation of the pairs, with method 10's continuity correction: a positive covariance
    # is moved n/2 towards zero, and not beyond.
    covariance = float(both * neither - dense_only * sparse_only)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    spread = math.prod((right_dense, n - right_dense, right_sparse, n - right_sparse))
    correlation = covariance / math.sqrt(spread) if spread else 0.0

    def combined(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    drop = (dense_only - sparse_only) / n
    low = drop - combined(p - low_p, high_q - q)
    high = drop + combined(high_p - p, q - low_q)
    return Interval(drop, low, high, n, confidence, _detectable(low, high, level), looks=looks)


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


def _wilson(k: int, n: int, confidence: float) -> tuple[float, float]:
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _detectable(low: float, high: float, confidence: float) -> float:
    """Detectable effect from an interval's width.

    The plug-in standard error is no use here: it is 0 when every item is right.
    """
    error = (high - low) / (2 * float(stats.norm.isf((1 - confidence) / 2)))
    return effect_per_error() * error


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
