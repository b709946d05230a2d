"""The limits of a mean or ratio of which nothing is known but the units: the bootstrap-t.

How far a resample's ratio is from the sample's, in units of its own standard error, stands for how
far the sample's is from the truth (Efron 1982, "The Jackknife, the Bootstrap and Other Resampling
Plans", section 10.10; Hall 1988, Annals of Statistics 16:927-953).  Unlike percentile intervals and
BCa it knows that few units tell their own spread badly, and on which side they are skewed.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from pytest_sparsity.core.statistics.draws import resampled_sums
from pytest_sparsity.core.statistics.interval import Vector

#: By the square of the normal quantile of a tail: units at which half of it is taken.
_TAIL_UNITS = 4.0


def standard_error(above: Vector, below: Vector) -> float:
    """Of sum(above) / sum(below) by the delta method, with n - 1; 0 where all units agree."""
    n, total = above.size, float(below.sum())
    residuals = above - float(above.sum()) / total * below
    # A ratio that is the same in every unit has no spread, whatever rounding says.
    if n < 2 or np.abs(residuals).max() <= 1e-12 * np.abs(above).max():
        return 0.0
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / abs(total)


def limits(
    above: Vector, below: Vector, *, level: float, seed: int, resamples: int
) -> tuple[float, float]:
    """Lower and upper limit of sum(above) / sum(below), each wrong in (1 - level) / 2.

    Args:
        above: [n], one total per unit; n at least 2, not all units with the same ratio.
        below: [n], what each total is divided by; their sum is not 0.
        level: in (0, 1).
        seed: of the draws.
        resamples: draws, so many that some are in the tail: :func:`tail_taken`.

    Each limit is the wider one of the bootstrap-t's and Student's: the first alone is too narrow
    where tails are heavy or many units are equal, the second where units are skewed.  Units that
    are few hide their skewness; less than the tail asked for is therefore taken, by a correction
    of the order 1 / n that the simulations of ``ci/interval_coverage.py`` led to.  A resample
    without any spread of its own may stand for any distance: where more than the tail are such,
    the limit is infinite.
    """
    n, total = above.size, float(below.sum())
    ratio = float(above.sum()) / total
    error = standard_error(above, below)
    tail = (1 - level) / 2
    reach = -float(special.stdtrit(n - 1, tail))
    distances = _distances(above - ratio * below, below, seed=seed, resamples=resamples)
    place = math.floor(tail_taken(level, n) * resamples) - 1
    ends = np.partition(distances, [place, resamples - 1 - place])
    lowest, highest = float(ends[place]), float(ends[resamples - 1 - place])
    return ratio - max(highest, reach) * error, ratio - min(lowest, -reach) * error


def tail_taken(level: float, n: int) -> float:
    """The tail at which the bootstrap-t of n units is cut, so that it keeps its promise.

    Of 2.5 % in each tail it is n / (n + 15): the further out, the less n units show.
    """
    tail = (1 - level) / 2
    return tail * n / (n + _TAIL_UNITS * float(special.ndtri(tail)) ** 2)


def _distances(residuals: Vector, below: Vector, *, seed: int, resamples: int) -> Vector:
    """Of each resample's ratio from the sample's, in its standard errors; +-inf without spread."""
    n = residuals.size
    squares = residuals * residuals
    columns = [residuals, squares]
    equal = below.min() == below.max()  # the size of each resample is known
    if not equal:
        columns += [below, residuals * below, below * below]
    table = np.stack(columns, axis=1)
    shift, spread, *rest = resampled_sums(table, seed=seed, resamples=resamples)
    # Of the resample's residuals from its own ratio, whose sum is 0.
    if equal:
        spread -= shift * shift / n
        if below[0] < 0:
            shift = -shift
    else:
        size, mixed, square = rest
        with np.errstate(all="ignore"):
            moved = shift / size
            spread += moved * (moved * square - 2 * mixed)
        shift = np.where(size < 0, -shift, shift)
    alike = ~(spread > 1e-12 * n * float(squares.max()))
    spread[alike] = 1.0
    apart = shift * math.sqrt((n - 1) / n) / np.sqrt(spread)
    still = np.abs(shift[alike]) <= 1e-9 * n * math.sqrt(float(squares.max()))
    apart[alike] = np.where(still, 0.0, np.copysign(math.inf, shift[alike]))
    return np.asarray(apart)
