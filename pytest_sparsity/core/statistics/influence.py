"""What each unit adds to an estimate, so that decisions over the same units can be joined."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_sparsity.core.statistics.interval import Bounds, Vector, as_vector, checked_bounds


@dataclass(frozen=True)
class Influence:
    """An estimate, its error, and what each unit adds to the difference from the truth.

    Attributes:
        estimate: mean or ratio in the sample.
        error: its standard error; infinite where the units say nothing of their spread.
        values: float64 [n], sum 0: the first-order influence of each unit on the estimate.  A
            draw of the units with counts c moves the estimate by about sum(c * values).
        units: the ids of the units, in the order of ``values``.
    """

    estimate: float
    error: float
    values: Vector
    units: tuple[Hashable, ...]


def influence(
    numerator: Sequence[float] | Vector,
    denominator: Sequence[float] | Vector | None = None,
    *,
    units: Sequence[Hashable] | None = None,
    bounds: Bounds | None = None,
) -> Influence:
    """Of sum(numerator) / sum(denominator), or of a mean without a denominator.

    Args:
        numerator: one total per unit.
        denominator: what each total is a sum over, or the other total of a ratio; 1 each if left
            out.
        units: an id per unit, so that decisions about the same unit can be recognised; its place
            if left out.
        bounds: as for :func:`.paired_mean`: of a share (0, 1), of a difference of shares (-1, 1).

    The error is that of the delta method, with n - 1.  Where both bounds are finite it is that of
    the sample with one unit more at each bound: few items of which none or all are lost have some
    spread, too.  For differences of right and wrong that is the interval of Bonett & Price (2012),
    "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data", Journal of Educational and Behavioral Statistics 37:479-488.

    Raises:
        ValueError: as for :func:`.paired_mean`, or ``units`` repeats an id or is of another length.
    """
    above = as_vector("numerator", numerator)
    n = above.size
    below = np.ones(n) if denominator is None else as_vector("denominator", denominator, n)
    ids = tuple(range(n)) if units is None else tuple(units)
    if len(ids) != n:
        raise ValueError(f"units must be one id per value: {n}, not {len(ids)}")
    if len(set(ids)) != n:
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"units must differ, {twice!r} is there more than once")
    total = float(below.sum())
    if total == 0:
        return Influence(math.nan, math.inf, np.zeros(n), ids)
    estimate = float(above.sum()) / total
    values = (above - estimate * below) / total
    if bounds is not None:
        checked_bounds(bounds, above / below)
    return Influence(estimate, _error(above, below, bounds), values, ids)


def _error(above: Vector, below: Vector, bounds: Bounds | None) -> float:
    """Standard error of the ratio of sums, see :func:`influence`."""
    if bounds is not None and all(map(math.isfinite, bounds)):
        typical = float(below.mean())
        above = np.append(above, np.multiply(bounds, typical))
        below = np.append(below, [typical, typical])
    n, total = above.size, float(below.sum())
    if n < 2:
        return math.inf
    residuals = above - float(above.sum()) / total * below
    # A ratio that is the same in every unit has no spread, whatever rounding says.
    if np.abs(residuals).max() <= 1e-12 * np.abs(above).max():
        return math.inf
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / abs(total)
