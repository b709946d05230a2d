"""Means and ratios over paired documents.

Everything here compares two models on the *same* documents or items.  That is what makes small
degradations visible: the spread between documents, far larger than the effect, cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from pytest_sparsity.core.statistics import bootstrap_t, bounded
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
    width_detectable,
)
from pytest_sparsity.core.statistics.looks import level_of_a_look


def paired_mean(
    differences: Sequence[float] | Vector,
    weights: Sequence[float] | Vector | None = None,
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
    looks: int = 1,
    bounds: Bounds | None = None,
) -> Interval:
    """Mean difference sum(differences) / sum(weights), with an interval over documents.

    Args:
        differences: one total per document, for example its log-likelihood dense minus sparse.
        weights: what each total is a sum over, for example tokens; 1 each if left out.
        seed: the same seed and data give the same interval.
        resamples: draws, at least 100.
        confidence: in (0, 1).
        looks: at how many amounts of data a verdict may be spoken, planned before data are seen;
            all their intervals hold together at ``confidence``, see :mod:`.looks`.
        bounds: the least and the greatest value that a unit (its total by its weight) can have,
            such as (0, 1) of a share, (-1, 1) of a difference of shares, (0, inf) of a
            divergence.

    Without bounds the limits are those of the bootstrap-t, no narrower than Student's
    (:mod:`.bootstrap_t`).  Where all units are equal, or too many are, the spread between units is
    not known: the interval is then infinite, and its note says how many units would do.

    With bounds the interval keeps within them.  Where both are finite there are exact limits, too
    (:mod:`.bounded`): they are taken where they are tighter, and alone where units take but five
    values, evenly from bound to bound, such as right and wrong.

    Raises:
        ValueError: an argument is empty, not finite, of the wrong length, a weight is not
            positive, or a unit is out of ``bounds``.
    """
    totals = as_vector("differences", differences)
    units = np.ones_like(totals) if weights is None else as_vector("weights", weights, totals.size)
    if not (units > 0).all():
        where = int(np.flatnonzero(units <= 0)[0])
        raise ValueError(f"weights must be positive, weights[{where}] is {units[where]}")
    found = _of_ratio(totals, units, seed, resamples, confidence, looks)
    if bounds is None:
        return found
    values = totals / units
    if not all(map(math.isfinite, checked_bounds(bounds, values))):
        return clipped(found, bounds)
    level = level_of_a_look(confidence, looks)
    low, high = bounded.limits(totals, units, bounds, level=level, seed=seed, resamples=resamples)
    if not np.isin(values, np.linspace(*bounds, 5)).all():
        low, high = max(found.low, low), min(found.high, high)
    note, detectable = found.note, found.detectable
    if note:  # the units alone say too little of their spread
        note = "limits from what is possible: the units are too few or too alike"
        detectable = width_detectable(low, high, level)
    return clipped(replace(found, low=low, high=high, note=note, detectable=detectable), bounds)


def paired_ratio(
    numerator: Sequence[float] | Vector,
    denominator: Sequence[float] | Vector,
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
    looks: int = 1,
    bounds: Bounds | None = None,
) -> Interval:
    """Ratio sum(numerator) / sum(denominator) over the same documents, with its interval.

    Made for shares of a loss: numerator = the loss won back, denominator = the loss.  A share of
    a loss that is not distinguishable from zero can be anything; the interval is then infinite
    (Fieller 1954: the set of plausible ratios is bounded only if the denominator differs from
    zero at the same confidence, by Student's t).  Otherwise as for :func:`paired_mean` without
    bounds, and cut at ``bounds``.

    Raises:
        ValueError: an argument is empty, not finite or of the wrong length.
    """
    above = as_vector("numerator", numerator)
    below = as_vector("denominator", denominator, above.size)
    n, level = above.size, level_of_a_look(checked_confidence(confidence), looks)
    reach = -float(special.stdtrit(n - 1, (1 - level) / 2)) if n > 1 else math.inf
    error = bootstrap_t.standard_error(below, np.ones(n))
    if not abs(float(below.mean())) > (reach * error if n > 1 else math.inf):
        total = float(below.sum())
        estimate = float(above.sum()) / total if total else math.nan
        note = "no limits: the denominator is not distinguishable from zero"
        found = unlimited(estimate, n, confidence, looks, note)
    else:
        found = _of_ratio(above, below, seed, resamples, confidence, looks)
    return found if bounds is None else clipped(found, bounds)


def _of_ratio(
    above: Vector, below: Vector, seed: int, resamples: int, confidence: float, looks: int
) -> Interval:
    """Interval of sum(above) / sum(below) of which no more is known."""
    level = level_of_a_look(checked_confidence(confidence), looks)
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100, not {resamples}")
    n = above.size
    estimate = float(above.sum() / below.sum())
    if n == 1:
        note = "no limits: one document says nothing about the spread between documents"
        return unlimited(estimate, n, confidence, looks, note)
    error = bootstrap_t.standard_error(above, below)
    if not error:
        note = f"no limits: all {n} are equal, {_enough(above, below, level)} might do"
        return unlimited(estimate, n, confidence, looks, note)
    if bootstrap_t.tail_taken(level, n) * resamples < 1:
        note = f"no limits: {resamples} resamples are too few for a confidence of {confidence}"
        return unlimited(estimate, n, confidence, looks, note)
    low, high = bootstrap_t.limits(above, below, level=level, seed=seed, resamples=resamples)
    note = ""
    if math.isinf(low) or math.isinf(high):
        note = f"no limit: {n} are too few or too alike, {_enough(above, below, level)} might do"
    detectable = effect_per_error(looks) * error
    return Interval(estimate, low, high, n, confidence, detectable, note, looks)


def _enough(above: Vector, below: Vector, level: float) -> int:
    """How many units of this kind it takes until hardly any resample has units of one value only.

    Where all are equal, one unit in the next n is taken to differ.
    """
    n = above.size
    with np.errstate(all="ignore"):
        values = above / below
    scale = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
    _, counts = np.unique(np.round(values / scale, 12), return_counts=True)
    alike = min(float(counts.max()) / n, n / (n + 1))
    needed = n
    while alike ** (needed - 1) >= bootstrap_t.tail_taken(level, needed):
        needed += 1
    return needed
