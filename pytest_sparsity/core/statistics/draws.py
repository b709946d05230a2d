"""Draws of units, made once for all that is said of as many units with the same seed.

A bootstrap is then a product of two matrices: what costs is drawing, and the cells of a sweep have
the same few numbers of documents and items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pytest_sparsity.core.statistics.interval import Vector

#: Draws at a time: their products stay in the cache of a processor.
_ROWS = 1000
#: Above so many units draws are made anew each time, they would take too much memory.
_KEPT_UNITS = 1024

#: What numpy seeds a generator with.
Seed = int | tuple[int, ...]
Drawn = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


def resampled_sums(columns: Vector, *, seed: Seed, resamples: int) -> Vector:
    """Sums of n units drawn with replacement, [k, resamples], of ``columns`` [n, k]."""
    return _sums(columns, _counts, seed, resamples)


def weighted_sums(columns: Vector, *, seed: Seed, resamples: int) -> Vector:
    """Sums of units with exponential weights of mean 1, [k, resamples], of ``columns`` [n, k].

    Divided by one another, such sums are those of the Bayesian bootstrap (Rubin 1981).
    """
    return _sums(columns, _weights, seed, resamples)


def _sums(
    columns: Vector,
    draw: Callable[[int, int, np.random.Generator], Drawn],
    seed: Seed,
    resamples: int,
) -> Vector:
    n = len(columns)
    kept = n <= _KEPT_UNITS
    blocks = _kept(draw, n, seed, resamples) if kept else _blocks(draw, n, seed, resamples)
    across = columns.T
    return np.concatenate([across @ block.astype(np.float64) for block in blocks], axis=1)


@lru_cache(maxsize=16)
def _kept(
    draw: Callable[[int, int, np.random.Generator], Drawn], n: int, seed: Seed, resamples: int
) -> list[Drawn]:
    return list(_blocks(draw, n, seed, resamples))


def _blocks(
    draw: Callable[[int, int, np.random.Generator], Drawn], n: int, seed: Seed, resamples: int
) -> Iterator[Drawn]:
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS):
        yield draw(min(_ROWS, resamples - start), n, rng)


def _counts(rows: int, n: int, rng: np.random.Generator) -> Drawn:
    """How often each of n units is drawn in n draws, [n, rows]; never near 255 times."""
    places = rows * rng.integers(0, n, (n, rows)) + np.arange(rows)
    return np.bincount(places.ravel(), minlength=rows * n).reshape(n, rows).astype(np.uint8)


def _weights(rows: int, n: int, rng: np.random.Generator) -> Drawn:
    return rng.standard_exponential((n, rows), dtype=np.float32)
