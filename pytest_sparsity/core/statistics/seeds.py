"""One figure of several seeds: pooled, with the spread between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics.interval import Interval


@dataclass(frozen=True)
class Pooled:
    """A figure over seeds.

    Attributes:
        interval: of the mean over seeds; it knows the error of each and the spread between them.
        between: standard deviation between the seeds.
        between_low: its lower end at 95 %, from so few seeds.
        between_high: its upper end.
        beyond: the part of the standard deviation that other documents and items do not explain.
    """

    interval: Interval
    between: float
    between_low: float
    between_high: float
    beyond: float


def pool_seeds(found: Sequence[Interval], common: float) -> Pooled:
    """The mean of a figure over seeds, by a model of random effects.

    Args:
        found: the figure of every seed, at one confidence.
        common: share of what one seed measured that another measured, too: 1 if all seeds read
            the same documents and items, ``n / N`` if each drew ``n`` of ``N`` without
            replacement.

    Two errors add up.  One is that of the documents that seeds have in common: no number of seeds
    makes it smaller, so it is that of a single seed times the square root of ``common``.  The
    other differs from seed to seed: other documents, the order of choices and whatever else.  It
    is seen in the spread, Student's t over seeds (Hartung & Knapp 2001, "A refined method for the
    meta-analysis of controlled clinical trials with binary outcome", Statistics in Medicine
    20:3875-3889), and never taken for less than other documents alone explain (Roever, Knapp &
    Friede 2015, BMC Medical Research Methodology 15:99).  The two are added as squares, each side
    by itself (Zou & Donner 2008, "Construction of confidence limits about effect measures: a
    general approach", Statistics in Medicine 27:1693-1702).

    Raises:
        ValueError: fewer than two seeds, different confidences, or ``common`` is no share.
    """
    if len(found) < 2:
        raise ValueError(f"pooling needs at least 2 seeds, not {len(found)}")
    if not 0 <= common <= 1:
        raise ValueError(f"common must be a share from 0 to 1, not {common}")
    if len({each.confidence for each in found}) > 1:
        named = ", ".join(f"{each.confidence:g}" for each in found)
        raise ValueError(f"seeds must have one confidence, not {named}")
    seeds, confidence = len(found), found[0].confidence
    values = np.array([each.estimate for each in found])
    mean, between = float(values.mean()), float(values.std(ddof=1))
    # What any seed read: of N that each draws n from, N (1 - (1 - n / N)^seeds) are expected.
    distinct = (1 - (1 - common) ** seeds) / common if common else seeds
    n = round(max(each.n for each in found) * distinct)
    chi = [float(stats.chi2.ppf(tail, seeds - 1)) for tail in (0.975, 0.025)]
    low, high = (between * math.sqrt((seeds - 1) / each) for each in chi)
    below = float(np.mean([each.estimate - each.low for each in found]))
    above = float(np.mean([each.high - each.estimate for each in found]))
    if not math.isfinite(mean + below + above):
        note = "no limits: a seed has none"
        interval = Interval(mean, -math.inf, math.inf, n, confidence, math.inf, note)
        return Pooled(interval, between, low, high, math.nan)
    spread = float(stats.t.isf((1 - confidence) / 2, seeds - 1)) * between / math.sqrt(seeds)

    def reach(side: float) -> float:
        alone = max(spread, side * math.sqrt((1 - common) / seeds))
        return math.hypot(side * math.sqrt(common), alone)

    quantile = float(stats.norm.isf((1 - confidence) / 2))
    error = (below + above) / (2 * quantile)
    beyond = math.sqrt(max(0.0, between**2 - (1 - common) * error**2))
    interval = Interval(mean, mean - reach(below), mean + reach(above), n, confidence, math.nan)
    return Pooled(interval, between, low, high, beyond)
