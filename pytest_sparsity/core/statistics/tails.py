"""How seldom a mean lies so far out: the far tails that decisions of a whole run are made in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

_NODES = 96
_FAR = 8.0  # standard deviations
#: Few skewed values look less skewed than what they are drawn from.  With twice their skewness, a
#: p of 0.001 of 32 exponential values (to the left) is reached in 0.0005 of cases, one of 0.0001 in
#: 0.00009; with their own in 0.0026 and 0.0005, and by Student's t alone in 0.012 and 0.004.
_SKEWED = 2.0


def upper_tail(values: Sequence[float]) -> float:
    """One-sided p-value that the mean of what ``values`` are drawn from is not above 0.

    Student's t, and where the values are skewed to the left, which makes its upper tail too short,
    with Hall's transformation (1992, "On the removal of skewness by transformation", Journal of
    the Royal Statistical Society B 54:221-228).  A hundred decisions at 1 % need p-values of
    0.0001, which no bootstrap of affordable size can tell.  Values that are all alike, or one, say
    nothing of their spread: 1.
    """
    sample = np.asarray(values, dtype=np.float64)
    n, spread = sample.size, float(sample.std()) if sample.size else 0.0
    if n < 2 or spread <= 1e-12 * float(np.abs(sample).max()):
        return 1.0
    mean = float(sample.mean())
    t = mean / (spread * math.sqrt(n / (n - 1))) * math.sqrt(n)
    skewness = _SKEWED * float((((sample - mean) / spread) ** 3).mean())
    if t > 0 and skewness < 0:
        part = skewness / (3 * math.sqrt(n))
        t = min(t, t + part * t**2 + part**2 * t**3 / 3 + part / 2)
    return float(stats.t.sf(t, n - 1))


def bounded_tail(values: Sequence[float], bounds: tuple[float, float]) -> float:
    """The largest p-value that the mean of what ``values`` are drawn from is not above 0.

    Holds for any number of values and any distribution between ``bounds``, the first of which is
    negative and the second positive: Hoeffding (1963), "Probability inequalities for sums of
    bounded random variables", Journal of the American Statistical Association 58:13-30, theorem 1.
    """
    low, high = bounds
    allowed, seen = -low / (high - low), (float(np.mean(values)) - low) / (high - low)
    if seen <= allowed:
        return 1.0
    seen = min(seen, 1.0)
    return math.exp(
        -len(values) * float(special.rel_entr([seen, 1 - seen], [allowed, 1 - allowed]).sum())
    )


def normal_score(t: npt.ArrayLike, df: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Student's t on the scale of a standard normal.

    Wallace (1959), "Bounds on normal approximations to Student's and the chi-square
    distributions", Annals of Mathematical Statistics 30:1121-1130, equation 4.2.
    """
    t, df = np.asarray(t, np.float64), np.asarray(df, np.float64)
    size = np.sqrt(df * np.log1p(np.square(t) / df)) * (8 * df + 1) / (8 * df + 3)
    return np.asarray(np.copysign(size, t))


def repeated(p: float, looks: int) -> float:
    """The p that holds for all of ``looks`` looks, from the one-sided p of one of them.

    The chance that at any of so many looks at equal steps so much is seen, integrated over one
    look after the other (Armitage, McPherson & Rowe 1969, Journal of the Royal Statistical Society
    A 132:235-244).  Looks that are closer together, as where data run out, only err less.

    Raises:
        ValueError: ``looks`` is not positive.
    """
    if looks < 1:
        raise ValueError(f"looks must be at least 1, not {looks}")
    if looks == 1 or p >= 0.5:
        return p if looks == 1 else min(1.0, looks * p)
    return _crossing(float(stats.norm.isf(p)), looks)


@lru_cache(maxsize=4096)
def _crossing(limit: float, looks: int) -> float:
    """Chance that a sum of standard normals is above limit * sqrt(k) at one of k = 1 ... looks.

    By Gauss and Legendre's rule, from 8 standard deviations below 0: a run asks some hundred times.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    found = float(special.ndtr(-limit))
    half = (limit + _FAR) / 2
    at = half * (nodes + 1) - _FAR
    density = _normal(at) * weights * half
    for look in range(2, looks + 1):
        edge, start = limit * math.sqrt(look), -_FAR * math.sqrt(look)
        found += float(density @ special.ndtr(at - edge))
        half = (edge - start) / 2
        arrived = half * (nodes + 1) + start
        density = _normal(arrived[:, None] - at) @ density * weights * half
        at = arrived
    return min(1.0, found)


def _normal(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The density of the standard normal distribution."""
    return np.asarray(np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi))
