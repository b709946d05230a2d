"""The limits of the mean of units that cannot be below one value, nor above another.

Gaffke (2005), "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
nonnegative variable", Mathematical Methods of Statistics 14:451-467; Learned-Miller & Thomas
(2020), "A new confidence interval for the mean of a bounded random variable", arXiv:1905.06208.
The units get random weights, as in a Bayesian bootstrap, and one more unit stands at the bound: it
is all that may not have been seen.  The limit is a quantile of the weighted means.  For right and
wrong that is the exact interval of Clopper & Pearson (1934).  That it never errs more often than
it says is proven for two values, and was found for all others that were ever tried;
``ci/interval_coverage.py`` counts it exactly for gains and losses of pairs.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from pytest_sparsity.core.statistics.draws import weighted_sums
from pytest_sparsity.core.statistics.interval import Bounds, Vector

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def limits(
    above: Vector,
    below: Vector,
    bounds: Bounds,
    *,
    level: float,
    seed: int,
    resamples: int,
) -> tuple[float, float]:
    """Lower and upper limit of sum(above) / sum(below), each wrong in (1 - level) / 2.

    Args:
        above: [n], one total per unit.
        below: [n], positive; the weight of each total.
        bounds: of above / below, finite.
        level: in (0, 1).
        seed: of the draws.
        resamples: draws.

    The unit at the bound weighs as much as one does on average.
    """
    n, typical = above.size, float(below.mean())
    columns = np.zeros((n + 1, 3))
    columns[:n, 0], columns[:n, 1], columns[n, 2] = above, below, typical
    sums, sizes, unseen = weighted_sums(columns, seed=seed, resamples=resamples)
    place = max(math.floor((1 - level) / 2 * resamples) - 1, 0)
    lowest, highest = ((sums + unseen * bound) / (sizes + unseen) for bound in bounds)
    return (
        float(np.partition(lowest, place)[place]),
        float(np.partition(highest, resamples - 1 - place)[resamples - 1 - place]),
    )


def share_limits(k: int, n: int, level: float) -> tuple[float, float]:
    """Of the share of which k of n were seen: Clopper & Pearson (1934), Biometrika 26:404-413."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(special.betainccinv(k + 1, n - k, tail)) if k < n else 1.0
    return low, high


def difference_limits(gains: int, losses: int, n: int, level: float) -> tuple[float, float]:
    """Of the mean of n units, ``gains`` of which are +1, ``losses`` are -1, and the others 0."""
    tail = (1 - level) / 2
    return -_highest(losses, gains, n, tail), _highest(gains, losses, n, tail)


@lru_cache(maxsize=4096)
def _highest(gains: int, losses: int, n: int, tail: float) -> float:
    """The value that the weighted mean exceeds with chance ``tail``, one more gain being possible.

    Of the weights, Dirichlet's, a share is on gains and losses (``moved``), and of that a share on
    gains (``won``), which are independent and have beta distributions; the mean is
    moved * (2 * won - 1).  It is integrated over ``moved`` by Gauss and Legendre's rule.
    """
    a, b, equal = gains + 1, losses, n - gains - losses
    if not losses:
        return share_limits(gains, n, 1 - 2 * tail)[1]
    if not equal:
        return 2 * float(special.betainccinv(a, b, tail)) - 1
    centre = (a + b) / (n + 1)
    reach = 9 * math.sqrt(centre * (1 - centre) / (n + 2))
    end = min(1.0, centre + reach)
    scale = float(special.betaln(a + b, equal))

    def exceeded(mean: float) -> float:
        # Less moved than the mean's size: a positive mean is never exceeded, a negative always.
        start = max(abs(mean), centre - reach)
        if start >= end:
            return float(mean < 0)
        moved = start + (end - start) * (_NODES + 1) / 2
        log = (a + b - 1) * np.log(moved) + (equal - 1) * np.log1p(-moved) - scale
        density = np.exp(log) * _WEIGHTS * (end - start) / 2
        found = float(density @ special.betaincc(a, b, (1 + mean / moved) / 2))
        return found if mean >= 0 else found + float(special.betainc(a + b, equal, start))

    return float(optimize.brentq(lambda mean: exceeded(mean) - tail, -1, 1, xtol=1e-9))
