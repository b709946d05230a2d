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

import numpy as np
from scipy import optimize, special, stats

from pytest_sparsity.core.statistics.draws import weighted_sums
from pytest_sparsity.core.statistics.interval import Bounds, Vector

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


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
    sums, sizes, unseen = weighted_sums(columns, seed=seed, resamples=resamples).T
    place = max(math.floor((1 - level) / 2 * resamples) - 1, 0)
    lowest, highest = ((sums + unseen * bound) / (sizes + unseen) for bound in bounds)
    return (
        float(np.partition(lowest, place)[place]),
        float(np.partition(highest, resamples - 1 - place)[resamples - 1 - place]),
    )


def share_limits(k: int, n: int, level: float) -> tuple[float, float]:
    """Of the share of which k of n were seen: Clopper & Pearson (1934), Biometrika 26:404-413."""
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.isf(tail, k + 1, n - k)) if k < n else 1.0
    return low, high


def difference_limits(gains: int, losses: int, n: int, level: float) -> tuple[float, float]:
    """Of the mean of n units, ``gains`` of which are +1, ``losses`` are -1, and the others 0."""
    tail = (1 - level) / 2
    return -_highest(losses, gains, n, tail), _highest(gains, losses, n, tail)


def _highest(gains: int, losses: int, n: int, tail: float) -> float:
    """The value that the weighted mean exceeds with chance ``tail``, one more gain being possible.

    Of the weights, Dirichlet's, a share is on gains and losses (``moved``), and of that a share on
    gains (``won``), which are independent and have beta distributions; the mean is
    moved * (2 * won - 1).  It is integrated over ``won`` by Gauss and Legendre's rule.
    """
    equal = n - gains - losses
    if not losses:
        return share_limits(gains, n, 1 - 2 * tail)[1]
    won = stats.beta(gains + 1, losses)
    if not equal:
        return 2 * float(won.isf(tail)) - 1
    reach, centre = 9 * float(won.std()), float(won.mean())
    start, end = max(0.0, centre - reach), min(1.0, centre + reach)
    at = start + (end - start) * (_NODES + 1) / 2
    chance = _WEIGHTS * won.pdf(at)
    chance /= chance.sum()
    factor = 2 * at - 1

    def exceeded(mean: float) -> float:
        # Where the factor is beyond the mean: that ``moved`` is large enough, or for a negative
        # mean that it is not.
        beyond = factor > mean if mean >= 0 else factor < mean
        needed = np.where(beyond, mean / np.where(beyond, factor, 1.0), 1.0)
        found = float(chance @ special.betaincc(gains + 1 + losses, equal, needed))
        return found if mean >= 0 else 1 - found

    return float(optimize.brentq(lambda mean: exceeded(mean) - tail, -1, 1, xtol=1e-10))
