"""Sums of weighted rows of four-bit numbers, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._rows import AHEAD, eight, factors_of
from pytest_sparsity.kernels.cpu._vectors import (
    add,
    lanes,
    load,
    prefetch,
    scaled,
    single,
    store,
    weighted_nibbles,
    wide,
    width,
)

_F32, _BYTE = np.float32(0), np.uint8(0)


@compiled
def add_nibbles(
    y: Any, half: int, payload: int, pitch: int, scales: int, scale_pitch: int, group: int,
    channels: Any, values: Any, count: int, sample: Any,
) -> None:  # fmt: skip
    """y[0:2 * half] += sum over j < count of values[j] * row channels[j], scaled.

    Args:
        y: float32; low nibbles belong to its first half.
        half: bytes of a row.
        payload: address of row 0.
        pitch: bytes from row to row.
        scales: address of those of row 0.
        scale_pitch: bytes from row to row.
        group: outputs that share a scale.
        channels: int32 [count], the numbers of rows; ``values`` [count] float32 their factors.
        values: see channels.
        count: how many rows to add.
        sample: of the scales.
    """
    j = 0
    while j < count:
        rows = eight(payload, pitch, channels, j, count)
        later = eight(payload, pitch, channels, j + 8, count)
        scale_rows = eight(scales, scale_pitch, channels, j, count)
        factors = factors_of(values, j, count)
        if count - j >= 8:
            _add(y, half, rows, later, scale_rows, factors, group, sample)
            j += 8
        else:
            _add(y, half, rows[:1], rows[1:2], scale_rows[:1], factors[:1], group, sample)
            j += 1


@compiled
def _add(
    y: Any, half: int, rows: Any, later: Any, scale_rows: Any, factors: Any, group: int, sample: Any
) -> None:
    """Some rows, in spans of outputs in which neither half comes to another scale."""
    ahead = min(AHEAD, half)
    start = 0
    while start < half:
        low, high = start // group, (start + half) // group
        stop = min(half, (low + 1) * group, (high + 1) * group - half)
        lows = scaled(factors, scale_rows, low * width(sample), sample)
        highs = scaled(factors, scale_rows, high * width(sample), sample)
        if start + ahead < half:
            _span(y, half, start, stop, rows, lows, highs, rows, ahead)
        else:
            _span(y, half, start, stop, rows, lows, highs, later, ahead - half)
        start = stop


@compiled
def _span(
    y: Any, half: int, start: int, stop: int, rows: Any, lows: Any, highs: Any, fetched: Any,
    ahead: int,
) -> None:  # fmt: skip
    step = lanes(wide(_BYTE))
    whole = stop - (stop - start) % step
    for offset in range(start, whole, step):
        prefetch(fetched, offset + ahead)
        _step(y, half, offset, rows, lows, highs, wide(_BYTE))
    for offset in range(whole, stop):
        _step(y, half, offset, rows, lows, highs, single(_BYTE))


@compiled
def _step(y: Any, half: int, offset: int, rows: Any, lows: Any, highs: Any, vector: Any) -> None:
    low, high = weighted_nibbles(rows, offset, lows, highs, vector)
    target = y.ctypes.data + 4 * offset
    store(target, add(load(target, _F32, vector), low), _F32)
    target += 4 * half
    store(target, add(load(target, _F32, vector), high), _F32)
