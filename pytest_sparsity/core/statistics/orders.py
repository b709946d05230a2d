"""Which orders of several cells their data leave possible, and how these agree with another order.

The figures of the cells are uncertain together: they rest on the same units.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from pytest_sparsity.core.statistics.interval import Vector

Table = npt.NDArray[np.float64]
#: Per order the cells from the lowest to the highest, [orders, cells].
Orders = npt.NDArray[np.int64]

#: All orders of so many cells are tried; of more, those that a search comes to from so many.
_ALL = 8
_STARTS = 60
_AT_ONCE = 2048
#: Of the largest variance: what is less is no spread.
_STILL = 1e-9


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> Vector:
    """Spearman's rank correlation over the last axis; ties have the mean of their ranks.

    NaN where one of the two is constant: it then has no order to agree with.
    """
    ranks = (stats.rankdata(values, axis=-1) for values in np.broadcast_arrays(x, y))
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        found = (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return np.asarray(found)


class PossibleOrders:
    """The orders of cells that estimates with a joint error do not rule out.

    Args:
        estimates: of the cells, [cells].
        spread: covariance of the estimates, [cells, cells].
        error: chance that the true order is ruled out on either side, half of it on each.

    An order is ruled out by one contrast of the cells, a sum with factors that is not above 0 for
    any values in that order, if the estimates' is above 0 (one-sided z test).  Of these contrasts
    it is the one that is most like the other order that cells are held against.  The true order is
    thus ruled out by chance only, whatever the cells' values are, also where they are nearly equal.

    A cell without spread says nothing of its error, and is given the largest.
    """

    def __init__(self, estimates: Vector, spread: Table, error: float) -> None:
        own = spread.diagonal()
        largest = float(own.max()) or 1.0
        self._estimates = estimates
        self._spread = spread + np.diag(np.where(own <= _STILL * largest, largest, 0.0))
        self._z = float(stats.norm.isf(error / 2))

    def correlations(self, x: Vector, rng: np.random.Generator) -> tuple[float, float]:
        """The smallest and the largest rank correlation with ``x`` of an order that is possible.

        Args:
            x: one value per cell, not all equal.
            rng: chooses where the search begins, where there are too many orders to try all.
        """
        slope = stats.rankdata(x) - (len(x) + 1) / 2
        low, high = (self._furthest(sign * slope, rng) for sign in (1.0, -1.0))
        return min(_agreements(slope, low)), max(_agreements(slope, high))

    def _furthest(self, slope: Vector, rng: np.random.Generator) -> Vector:
        """Ranks, [cells], of the possible order that agrees least with ``slope``."""
        lowest = (self._first_of_all if len(slope) <= _ALL else self._search)(slope, rng)
        return np.argsort(lowest).astype(np.float64)

    def _first_of_all(self, slope: Vector, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Of all orders that are possible the one that agrees least with ``slope``."""
        orders = _all_orders(len(slope))
        orders = orders[np.argsort(_products(orders, slope), kind="stable")]
        for start in range(0, len(orders), _AT_ONCE):
            some = orders[start : start + _AT_ONCE]
            if (possible := self._possible(some, slope)).any():
                return np.asarray(some[possible.argmax()])
        return np.asarray(orders[-1])

    def _possible(self, orders: Orders, slope: Vector) -> npt.NDArray[np.bool_]:
        """Whether each order is not ruled out in favour of one that agrees more with ``slope``."""
        own = slope[orders]
        factors = own - isotonic(own)
        contrasts = np.empty_like(factors)
        np.put_along_axis(contrasts, orders, factors, axis=1)
        variance = np.einsum("oi,ij,oj->o", contrasts, self._spread, contrasts)
        limit = self._z * np.sqrt(np.maximum(variance, 0.0))
        # An order that agrees wholly has no contrast, but what rounding leaves.
        return np.asarray(contrasts @ self._estimates <= limit + 1e-12)

    def _search(self, slope: Vector, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """A possible order that agrees little: no exchange of two cells leads to one with less.

        It begins at the estimates' order, and at those of draws that are moved against ``slope``.
        """
        noise = rng.multivariate_normal(np.zeros(len(slope)), self._spread, _STARTS, method="eigh")
        own = np.sqrt(self._spread.diagonal()) * np.sign(slope)
        moved = self._estimates + noise - rng.uniform(0, self._z, (_STARTS, 1)) * own
        orders = np.argsort(np.concatenate([self._estimates[None], moved]), axis=1, kind="stable")
        orders = np.unique(orders[self._possible(orders, slope)], axis=0)
        if not len(orders):  # where cells are equal, their order is any
            orders = np.lexsort((slope, self._estimates))[None]
        one, other = np.triu_indices(len(slope), 1)
        pair = np.arange(len(one))
        while True:
            swapped = np.repeat(orders[:, None], len(pair), axis=1)
            swapped[:, pair, one], swapped[:, pair, other] = orders[:, other], orders[:, one]
            flat = swapped.reshape(-1, len(slope))
            products = np.where(self._possible(flat, slope), _products(flat, slope), np.inf)
            products = products.reshape(len(orders), -1)
            best = products.argmin(axis=1)
            rows = np.arange(len(orders))
            better = products[rows, best] < _products(orders, slope) - 1e-9
            if not better.any():
                return np.asarray(orders[np.argmin(_products(orders, slope))])
            orders = np.where(better[:, None], swapped[rows, best], orders)


def isotonic(values: Table) -> Table:
    """The nearest values that do not fall, along the last axis; [rows, cells].

    The least squares fit is the largest of the least means of neighbours (Robertson, Wright &
    Dykstra 1988, "Order Restricted Statistical Inference", theorem 1.4.4).
    """
    rows, cells = values.shape
    sums = np.concatenate([np.zeros((rows, 1)), np.cumsum(values, axis=1)], axis=1)
    fitted = np.empty_like(values)
    for place in range(cells):
        least = [
            np.min(
                (sums[:, place + 1 :] - sums[:, start, None])
                / np.arange(place + 1 - start, cells + 1 - start),
                axis=1,
            )
            for start in range(place + 1)
        ]
        fitted[:, place] = np.max(least, axis=0)
    return fitted


@functools.cache
def _all_orders(cells: int) -> Orders:
    return np.array(list(itertools.permutations(range(cells))))


def _products(orders: Orders, slope: Vector) -> Vector:
    """What correlations of orders without ties are proportional to, [orders]."""
    return np.asarray(slope[orders] @ np.arange(orders.shape[1]))


def _agreements(slope: Vector, ranks: Vector) -> tuple[float, float]:
    """The correlation of ranks, and the same where neighbours equal in ``slope`` are equal."""
    places = np.argsort(ranks)
    tied = np.empty_like(ranks)
    tied[places] = np.cumsum(np.diff(slope[places], prepend=math.nan) != 0)
    plain, equal = float(spearman(slope, ranks)), float(spearman(slope, tied))
    return plain, plain if math.isnan(equal) else equal
