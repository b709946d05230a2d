"""An estimate with what the data say about it, and what all methods ask of their arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from pytest_sparsity.core.statistics.looks import level_of_a_look

Vector = npt.NDArray[np.float64]
#: The least and the greatest value that a unit can have; infinite where there is none.
Bounds = tuple[float, float]

_POWER = 0.80
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate and what the data say about it.

    Attributes:
        estimate: the value in the sample.
        low: lower end; minus infinity where the data set no limit.
        high: upper end; plus infinity where the data set no limit.
        n: documents or items behind the estimate.
        confidence: share of repeated experiments whose interval holds the true value.
        detectable: smallest true effect that n documents would have shown at the 5 % level
            (two-sided) four times in five: 2.8 standard errors.  NaN where nobody worked it out.
        note: why the interval is not what it usually is; empty if there is nothing to say.
        looks: at how many amounts of data a verdict may be spoken.  All intervals of those looks
            hold together at ``confidence``, see :mod:`.looks`.
    """

    estimate: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    detectable: float = math.nan
    note: str = ""
    looks: int = 1

    def __format__(self, spec: str) -> str:
        """``f"{interval:.2f}"`` is ``1.59 [1.53, 1.66]``."""
        if not spec:
            return str(self)
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Interval:
        """Read an interval; what is not finite is text or null, and old ones knew one look."""
        real = ("estimate", "low", "high", "confidence", "detectable")
        values = {n: math.nan if content[n] is None else float(content[n]) for n in real}
        return cls(**values, n=content["n"], note=content["note"], looks=content.get("looks", 1))


def effect_per_error(looks: int = 1) -> float:
    """How many standard errors an effect has that shows four times in five, at one of ``looks``."""
    level = level_of_a_look(1 - _SIGNIFICANCE, looks)
    return float(special.ndtri(_POWER) - special.ndtri((1 - level) / 2))


def width_detectable(low: float, high: float, level: float) -> float:
    """Detectable effect from the width of an interval at ``level``.

    The plug-in standard error is no use where every item is right: it is 0.
    """
    error = (high - low) / (-2 * float(special.ndtri((1 - level) / 2)))
    return effect_per_error() * error


def as_vector(name: str, values: Sequence[float] | Vector, size: int | None = None) -> Vector:
    """Values as float64 [size], or ValueError where they are no list of finite numbers."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"{name} must be a non-empty list of numbers, its shape is {vector.shape}")
    if size is not None and vector.size != size:
        raise ValueError(f"{name} must have one value per document: {size}, not {vector.size}")
    if not np.isfinite(vector).all():
        where = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise ValueError(f"{name} must be finite, {name}[{where}] is {vector[where]}")
    return vector


def checked_confidence(confidence: float) -> float:
    """The same, or ValueError unless it is in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return confidence


def unlimited(estimate: float, n: int, confidence: float, looks: int, note: str) -> Interval:
    """The interval of what the data set no limit to; the note says why, and what would help."""
    return Interval(estimate, -math.inf, math.inf, n, confidence, math.inf, note, looks)


def clipped(found: Interval, bounds: Bounds) -> Interval:
    """The interval without what is impossible; it always holds the estimate."""
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (found.low, found.high))
    return replace(found, low=min(low, found.estimate), high=max(high, found.estimate))


def checked_bounds(bounds: Bounds, values: Vector) -> Bounds:
    """The same, or ValueError where they are none or a value is beyond them.

    Rounding may bring a value beyond: a divergence in float32 can be -1e-7.
    """
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds must be a lower and a higher value, not {low} and {high}")
    slack = 1e-6 * max(1.0, *(abs(end) for end in bounds if math.isfinite(end)), 1.0)
    outside = np.flatnonzero((values < low - slack) | (values > high + slack))
    if outside.size:
        where = int(outside[0])
        raise ValueError(
            f"every unit must be within {low} and {high}, unit {where} is {values[where]}"
        )
    return bounds
