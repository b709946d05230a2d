"""Paired statistics: how far a sparse model is from the dense one, and how sure that is.

Everything here compares two models on the *same* documents or items.  That is what makes small
degradations visible: the spread between documents, far larger than the effect, cancels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Vector = npt.NDArray[np.float64]

_POWER = 0.80
_SIGNIFICANCE = 0.05
#: Of fewer units a bootstrap says nothing.
SMALLEST_BOOTSTRAP = 5


@dataclass(frozen=True)
class Interval:
    """An estimate and what the data say about it.

    Attributes:
        estimate: the value in the sample.
        low: lower end; minus infinity where the data set no limit.
        high: upper end; plus infinity where the data set no limit.
        n: documents or items behind the estimate.
        confidence: share of repeated experiments whose interval holds the true value.
        detectable: smallest true effect that n documents would have shown at the 5 % level
            (two-sided) four times in five: 2.8 standard errors.  NaN where nobody worked it out.
        note: why the interval is not what it usually is; empty if there is nothing to say.
    """

    estimate: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    detectable: float = math.nan
    note: str = ""

    def __format__(self, spec: str) -> str:
        """``f"{interval:.2f}"`` is ``1.59 [1.53, 1.66]``."""
        if not spec:
            return str(self)
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Interval:
        """Read an interval; what is not finite is text or null."""
        real = ("estimate", "low", "high", "confidence", "detectable")
        values = {n: math.nan if content[n] is None else float(content[n]) for n in real}
        return cls(**values, n=content["n"], note=content["note"])


def paired_mean(
    differences: Sequence[float] | Vector,
    weights: Sequence[float] | Vector | None = None,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Mean difference sum(differences) / sum(weights), with a bootstrap over documents.

    Args:
        differences: one total per document, for example its log-likelihood dense minus sparse.
        weights: what each total is a sum over, for example tokens; 1 each if left out.
        seed: the same seed and data give the same interval.
        resamples: bootstrap samples.
        confidence: in (0, 1).

    The interval is BCa (Efron 1987), expanded for small samples.  Fewer than five documents get
    Student's t instead, which a bootstrap cannot match there, and one an infinite interval.

    Raises:
        ValueError: an argument is empty, not finite, of the wrong length, or a weight is not
            positive.
    """
    totals = as_vector("differences", differences)
    units = np.ones_like(totals) if weights is None else as_vector("weights", weights, totals.size)
    if not (units > 0).all():
        where = int(np.flatnonzero(units <= 0)[0])
        raise ValueError(f"weights must be positive, weights[{where}] is {units[where]}")
    return _bootstrap_ratio(totals, units, seed, resamples, confidence)


def paired_ratio(
    numerator: Sequence[float] | Vector,
    denominator: Sequence[float] | Vector,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Ratio sum(numerator) / sum(denominator) over the same documents, with its interval.

    Made for shares of a loss: numerator = the loss won back, denominator = the loss.  A share of
    a loss that is not distinguishable from zero can be anything; the interval is then infinite
    (Fieller 1954: the set of plausible ratios is bounded only if the denominator differs from
    zero at the same confidence).

    Raises:
        ValueError: as for :func:`paired_mean`.
    """
    above = as_vector("numerator", numerator)
    below = as_vector("denominator", denominator, above.size)
    size = paired_mean(below, seed=seed, resamples=resamples, confidence=confidence)
    if size.low <= 0 <= size.high:
        total = float(below.sum())
        return Interval(
            estimate=float(above.sum()) / total if total else math.nan,
            low=-math.inf,
            high=math.inf,
            n=above.size,
            confidence=confidence,
            detectable=math.inf,
            note="no limits: the denominator is not distinguishable from zero",
        )
    return _bootstrap_ratio(above, below, seed, resamples, confidence)


def proportion(k: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Share k of n, with the Wilson score interval (Wilson 1927).

    Raises:
        ValueError: n is not positive or k is not within 0..n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= k <= n:
        raise ValueError(f"k must be within 0..{n}, not {k}")
    low, high = _wilson(k, n, checked_confidence(confidence))
    return Interval(k / n, low, high, n, confidence, _detectable(low, high, confidence))


def paired_proportion(
    dense: Sequence[bool], sparse: Sequence[bool], *, confidence: float = 0.95
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
    low_p, high_p = _wilson(right_dense, n, checked_confidence(confidence))
    low_q, high_q = _wilson(right_sparse, n, confidence)

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
    return Interval(drop, low, high, n, confidence, _detectable(low, high, confidence))


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


def _bootstrap_ratio(
    above: Vector, below: Vector, seed: int, resamples: int, confidence: float
) -> Interval:
    """Interval of sum(above) / sum(below), documents drawn with replacement."""
    checked_confidence(confidence)
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100, not {resamples}")
    n = above.size
    estimate = float(above.sum() / below.sum())
    if n == 1:
        note = "no limits: one document says nothing about the spread between documents"
        return Interval(estimate, -math.inf, math.inf, 1, confidence, math.inf, note)
    residuals = above - estimate * below
    # A ratio that is the same in every document has no spread, whatever rounding says.
    rounding = 1e-12 * float(np.abs(above).max())
    if np.abs(residuals).max() <= rounding:
        return Interval(estimate, estimate, estimate, n, confidence, detectable=0.0)
    if n < SMALLEST_BOOTSTRAP:
        # The delta method: a ratio's error is that of the sum of its residuals.
        error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / abs(float(below.sum()))
        reach = float(stats.t.isf((1 - confidence) / 2, n - 1)) * error
        note = f"Student's t: {n} documents are too few for a bootstrap"
        detectable = effect_per_error() * error
        return Interval(
            estimate, estimate - reach, estimate + reach, n, confidence, detectable, note
        )

    def statistic(a: Vector, b: Vector, axis: int) -> Vector:
        return np.asarray(a.sum(axis=axis) / b.sum(axis=axis))

    def draws(**options: Any) -> Any:
        return stats.bootstrap(
            (above, below),
            statistic,
            paired=True,
            vectorized=True,
            confidence_level=expanded(confidence, n),
            **options,
        )

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Where BCa is undefined scipy warns and returns NaN; the NaN is dealt with below.
        warnings.simplefilter("ignore")
        result = draws(
            method="BCa",
            n_resamples=resamples,
            batch=256,  # or the jackknife inside BCa takes n * n numbers at once
            rng=np.random.default_rng(seed),
        )
    low, high = map(float, result.confidence_interval)
    note = ""
    if math.isnan(low) or math.isnan(high):
        percentile = draws(method="percentile", n_resamples=0, bootstrap_result=result)
        low, high = map(float, percentile.confidence_interval)
        note = "percentile bootstrap: BCa is undefined, the documents are too few or too alike"
    detectable = effect_per_error() * float(result.standard_error)
    return Interval(estimate, low, high, n, confidence, detectable, note)


def expanded(confidence: float, n: int) -> float:
    """The nominal level at which a bootstrap interval over n documents keeps its promise.

    A bootstrap sample spreads sqrt((n - 1) / n) times too little and knows nothing of the heavier
    tails of Student's t.  Hesterberg (2015), "What Teachers Should Know about the Bootstrap", The
    American Statistician 69:371-386, section 5, widens the quantiles by both; 10 normal documents
    are then covered 94 % of the time instead of 89 %.
    """
    quantile = math.sqrt(n / (n - 1)) * float(stats.t.isf((1 - confidence) / 2, n - 1))
    return 1 - 2 * float(stats.norm.sf(quantile))


def _wilson(k: int, n: int, confidence: float) -> tuple[float, float]:
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _detectable(low: float, high: float, confidence: float) -> float:
    """Detectable effect from an interval's width.

    The plug-in standard error is no use here: it is 0 when every item is right.
    """
    error = (high - low) / (2 * float(stats.norm.isf((1 - confidence) / 2)))
    return effect_per_error() * error


def effect_per_error() -> float:
    """How many standard errors an effect has that shows four times in five."""
    return float(stats.norm.isf(_SIGNIFICANCE / 2) + stats.norm.ppf(_POWER))


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


def as_vector(name: str, values: Sequence[float] | Vector, size: int | None = None) -> Vector:
    """Values as float64 [size], or ValueError where they are no list of finite numbers."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"{name} must be a non-empty list of numbers, its shape is {vector.shape}")
    if size is not None and vector.size != size:
        raise ValueError(f"{name} must have one value per document: {size}, not {vector.size}")
    if not np.isfinite(vector).all():
        where = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise ValueError(f"{name} must be finite, {name}[{where}] is {vector[where]}")
    return vector


def checked_confidence(confidence: float) -> float:
    """The same, or ValueError unless it is in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return confidence
