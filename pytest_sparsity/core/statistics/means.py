"""Means and ratios over paired documents, with an interval from a bootstrap.

Everything here compares two models on the *same* documents or items.  That is what makes small
degradations visible: the spread between documents, far larger than the effect, cancels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics.interval import (
    Bounds,
    Interval,
    Vector,
    as_vector,
    checked_bounds,
    checked_confidence,
    clipped,
    effect_per_error,
    unlimited,
)
from pytest_sparsity.core.statistics.looks import level_of_a_look

#: Of fewer units a bootstrap says nothing.
SMALLEST_BOOTSTRAP = 5


def paired_mean(
    differences: Sequence[float] | Vector,
    weights: Sequence[float] | Vector | None = None,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
    looks: int = 1,
    bounds: Bounds | None = None,
) -> Interval:
    """Mean difference sum(differences) / sum(weights), with a bootstrap over documents.

    Args:
        differences: one total per document, for example its log-likelihood dense minus sparse.
        weights: what each total is a sum over, for example tokens; 1 each if left out.
        seed: the same seed and data give the same interval.
        resamples: bootstrap samples.
        confidence: in (0, 1).
        looks: at how many amounts of data a verdict may be spoken, planned before data are seen;
            all their intervals hold together at ``confidence``, see :mod:`.looks`.
        bounds: the least and the greatest value that a unit (its total by its weight) can have,
            such as (0, 1) of a share, (-1, 1) of a difference of shares, (0, inf) of a
            divergence.  The interval keeps within them, and where the units say nothing of
            their spread, they are all that is known of it.

    The interval is BCa (Efron 1987), expanded for small samples.  Fewer than five documents get
    Student's t instead, which a bootstrap cannot match there, and one an infinite interval.

    Raises:
        ValueError: an argument is empty, not finite, of the wrong length, a weight is not
            positive, or a unit is out of ``bounds``.
    """
    totals = as_vector("differences", differences)
    units = np.ones_like(totals) if weights is None else as_vector("weights", weights, totals.size)
    if not (units > 0).all():
        where = int(np.flatnonzero(units <= 0)[0])
        raise ValueError(f"weights must be positive, weights[{where}] is {units[where]}")
    if bounds is not None:
        checked_bounds(bounds, totals / units)
    found = _bootstrap_ratio(totals, units, seed, resamples, confidence, looks)
    return found if bounds is None else clipped(found, bounds)


def paired_ratio(
    numerator: Sequence[float] | Vector,
    denominator: Sequence[float] | Vector,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
    looks: int = 1,
    bounds: Bounds | None = None,
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
    size = paired_mean(below, seed=seed, resamples=resamples, confidence=confidence, looks=looks)
    if size.low <= 0 <= size.high:
        total = float(below.sum())
        estimate = float(above.sum()) / total if total else math.nan
        note = "no limits: the denominator is not distinguishable from zero"
        found = unlimited(estimate, above.size, confidence, looks, note)
    else:
        found = _bootstrap_ratio(above, below, seed, resamples, confidence, looks)
    return found if bounds is None else clipped(found, bounds)


def _bootstrap_ratio(
    above: Vector, below: Vector, seed: int, resamples: int, confidence: float, looks: int
) -> Interval:
    """Interval of sum(above) / sum(below), documents drawn with replacement."""
    level = level_of_a_look(checked_confidence(confidence), looks)
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100, not {resamples}")
    n = above.size
    estimate = float(above.sum() / below.sum())
    if n == 1:
        note = "no limits: one document says nothing about the spread between documents"
        return unlimited(estimate, 1, confidence, looks, note)
    residuals = above - estimate * below
    # A ratio that is the same in every document has no spread, whatever rounding says.
    rounding = 1e-12 * float(np.abs(above).max())
    if np.abs(residuals).max() <= rounding:
        return Interval(estimate, estimate, estimate, n, confidence, detectable=0.0, looks=looks)
    if n < SMALLEST_BOOTSTRAP:
        # The delta method: a ratio's error is that of the sum of its residuals.
        error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / abs(float(below.sum()))
        reach = float(stats.t.isf((1 - level) / 2, n - 1)) * error
        note = f"Student's t: {n} documents are too few for a bootstrap"
        detectable = effect_per_error() * error
        return Interval(
            estimate, estimate - reach, estimate + reach, n, confidence, detectable, note, looks
        )

    def statistic(a: Vector, b: Vector, axis: int) -> Vector:
        return np.asarray(a.sum(axis=axis) / b.sum(axis=axis))

    def draws(**options: Any) -> Any:
        return stats.bootstrap(
            (above, below),
            statistic,
            paired=True,
            vectorized=True,
            confidence_level=expanded(level, n),
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
    return Interval(estimate, low, high, n, confidence, detectable, note, looks)


def expanded(confidence: float, n: int) -> float:
    """The nominal level at which a bootstrap interval over n documents keeps its promise.

    A bootstrap sample spreads sqrt((n - 1) / n) times too little and knows nothing of the heavier
    tails of Student's t.  Hesterberg (2015), "What Teachers Should Know about the Bootstrap", The
    American Statistician 69:371-386, section 5, widens the quantiles by both; 10 normal documents
    are then covered 94 % of the time instead of 89 %.
    """
    quantile = math.sqrt(n / (n - 1)) * float(stats.t.isf((1 - confidence) / 2, n - 1))
    return 1 - 2 * float(stats.norm.sf(quantile))
