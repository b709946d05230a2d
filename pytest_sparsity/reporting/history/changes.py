"""Change points: the runs at which a series went to another level.

The method is that of Fleming et al. (2023), "Hunter: Using Change Point Detection to Hunt for
Performance Regressions" (arXiv 2301.03034), which nightly benchmarks of databases run on: the
E-divisive statistic of Matteson & James (2014), "A Nonparametric Approach for Multiple Change Point
Analysis of Multivariate Data" (arXiv 1306.4933) proposes where to split, in windows that overlap by
half; Student's t-test, which needs no random permutations, says whether the two sides differ; and
weak change points are taken away again, the weakest first, until all that are left are significant
and large.

Nothing is imported for it: its maintained implementation, Apache Otava, is a command line with
connectors to databases, and ``ruptures``, the library for change points, has no test of
significance: what its penalties find depends on a number that nobody can state in advance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import special

from pytest_sparsity.reporting.history import MAGNITUDE, SIGNIFICANCE, WINDOW

Vector = npt.NDArray[np.float64]

#: Runs on either side of a change, at least: one slow night is a slow night.
SIDE = 3
_WEAK = 10 * SIGNIFICANCE  # what the first pass keeps, as in Hunter


@dataclass(frozen=True)
class ChangePoint:
    """A run from which on a series is at another level.

    Attributes:
        index: of the first run at the new level.
        before: mean between the change before and this one.
        after: mean from here to the next change.
        p_value: of Student's t-test between the two.
    """

    index: int
    before: float
    after: float
    p_value: float

    @property
    def magnitude(self) -> float:
        """Relative change: 0.2 is 20 % up."""
        if self.before == self.after:
            return 0.0
        if not self.before:
            return math.copysign(math.inf, self.after)
        return (self.after - self.before) / abs(self.before)


def change_points(values: Sequence[float]) -> list[ChangePoint]:
    """Where ``values``, one per run, change their level; in order.

    Raises:
        ValueError: a value is not finite.
    """
    series = np.asarray(values, np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series must be finite")
    weak = sorted(
        {
            split
            for start in range(0, max(len(series) - SIDE, 1), WINDOW // 2)
            for split in _splits(series, start, min(start + WINDOW, len(series)))
        }
    )
    while True:
        found = _between(series, weak)
        if not (dropped := _weakest(found)):
            return found
        weak.remove(dropped.index)


def _weakest(found: Sequence[ChangePoint]) -> ChangePoint | None:
    """The change point to remove next: insignificant ones first, then small ones."""
    insignificant = [point for point in found if not point.p_value < SIGNIFICANCE]
    if insignificant:
        return max(insignificant, key=lambda point: point.p_value)
    small = [point for point in found if abs(point.magnitude) < MAGNITUDE]
    return min(small, key=lambda point: abs(point.magnitude), default=None)


def _between(series: Vector, splits: Sequence[int]) -> list[ChangePoint]:
    """The change at every split: means of the segments before and after it."""
    segments = [series[a:b] for a, b in pairwise([0, *splits, len(series)])]
    return [
        ChangePoint(split, float(left.mean()), float(right.mean()), _p_value(left, right))
        for split, (left, right) in zip(splits, pairwise(segments), strict=True)
    ]


def _splits(series: Vector, start: int, stop: int) -> list[int]:
    """Splits of one window, each part split again until no split is even weakly significant."""
    if stop - start < 2 * SIDE:
        return []
    split = start + _best_split(series[start:stop])
    if not _p_value(series[start:split], series[split:stop]) < _WEAK:
        return []
    return [*_splits(series, start, split), split, *_splits(series, split, stop)]


def _best_split(window: Vector) -> int:
    """The index whose two sides are furthest apart.

    E-divisive looks at all pairs of a side X, from the start of the window, and a side Y after it,
    which may end before the window does, and takes the pair with the largest
    ``n m / (n + m) (2 E|X - Y| - E|X - X'| - E|Y - Y'|)``.
    """
    size = len(window)
    distances = np.abs(window[:, None] - window[None, :])
    sums = np.zeros((size + 1, size + 1))
    sums[1:, 1:] = distances.cumsum(0).cumsum(1)  # of the distances among the first i and j
    split = np.arange(SIDE, size - SIDE + 1)[:, None]
    end = np.arange(2 * SIDE, size + 1)[None, :]
    n, m = split, np.maximum(end - split, 2)
    across = (sums[split, end] - sums[split, split]) / (n * m)
    within_x = sums[split, split] / (n * (n - 1))
    within_y = (sums[end, end] - 2 * sums[split, end] + sums[split, split]) / (m * (m - 1))
    apart = n * m / (n + m) * (2 * across - within_x - within_y)
    apart = np.where(end - split >= SIDE, apart, -np.inf)
    return SIDE + int(np.argmax(apart.max(axis=1)))


def _p_value(left: Vector, right: Vector) -> float:
    """Of Student's two-sided t-test; if neither side varies, 0 where they differ, else 1."""
    n, m = len(left), len(right)
    if min(n, m) < SIDE:
        return 1.0
    difference = float(left.mean() - right.mean())
    rounding = 1e-12 * float(max(np.abs(left).max(), np.abs(right).max()))
    if max(float(np.ptp(left)), float(np.ptp(right))) <= rounding:
        return 0.0 if abs(difference) > rounding else 1.0
    variance = (n * float(left.var()) + m * float(right.var())) / (n + m - 2)
    t = abs(difference) / math.sqrt(variance * (1 / n + 1 / m))
    return float(2 * special.stdtr(n + m - 2, -t))
