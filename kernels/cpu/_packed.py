"""Linear layers with packed weights, compiled; addresses and steps as in ``_linear``."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._activations import (
    add_kept,
    compact,
    finish,
    finish_rows,
    selected,
    started,
)
from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._nibbles import add_nibbles
from pytest_sparsity.kernels.cpu._vectors import (
    lanes,
    load,
    looked_up,
    multiply_add,
    number,
    single,
    store,
    wide,
    width,
)

_F32, _INT8 = np.float32(0), np.int8(0)


@compiled
def sparse_int8(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    payload: int, pitch: int, outputs: int, scales: int, scale_step: int,
    threshold: float, bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Out = scales * (payload S_t(x)) + b; from channel to channel ``pitch`` bytes."""
    size = width(sample)
    values, keep = selected(x, x_pitch, x_step, rows, channels, threshold, sample)
    listed = np.empty(channels, np.int32)
    count = compact(keep, rows, channels, listed)
    sums = np.zeros(rows * outputs, np.float32)
    add_kept(sums, outputs, values, keep, rows, channels, listed, count, payload, 1, pitch, _INT8)
    y = started(rows, outputs, bias, bias_step, sample)
    for output in range(outputs):
        scale = number(scales + output * scale_step * size, sample)
        for row in range(rows):
            y[row * outputs + output] += scale * sums[row * outputs + output]
    finish_rows(y, rows, outputs, out, out_pitch, sample)


@compiled
def sparse_int4(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    payload: int, pitch: int, half: int, scales: int, scale_pitch: int, group: int, outputs: int,
    threshold: float, bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Like :func:`sparse_int8` with ``half`` bytes per channel and a scale per ``group``."""
    size = width(sample)
    values, keep = selected(x, x_pitch, x_step, rows, channels, threshold, sample)
    own_channels = np.empty(channels, np.int32)
    own_values = np.empty(channels, np.float32)
    start = started(1, outputs, bias, bias_step, sample)
    for row in range(rows):
        own = 0
        for channel in range(channels):
            own_channels[own] = channel
            own_values[own] = values[row * channels + channel]
            own += keep[row * channels + channel]
        y = np.zeros(2 * half, np.float32)
        y[:outputs] = start
        add_nibbles(
            y, half, payload, pitch, scales, scale_pitch * size, group,
            own_channels, own_values, own, sample,
        )  # fmt: skip
        finish(y, 0, outputs, out + row * out_pitch * size, sample)


@compiled
def semi_structured_linear(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    packed: int, group_step: int, slot_step: int, outputs: int, slots: int,
    indices: int, index_group_step: int, index_slot_step: int,
    threshold: float, bias: int, bias_step: int, out: int, out_pitch: int,
    pattern: Any, sample: Any,
) -> None:  # fmt: skip
    """Out = W S_t(x) + b, W in groups of as many channels as ``pattern`` is long."""
    size = width(sample)
    members = len(pattern)
    values, keep = selected(x, x_pitch, x_step, rows, channels, threshold, sample)
    values[~keep] = 0
    y = started(rows, outputs, bias, bias_step, sample)
    whole = outputs - outputs % lanes(wide(sample))
    for group in range(channels // members):
        for row in range(rows):
            first = row * channels + group * members
            if not keep[first : first + members].any():
                continue
            for pair in range(slots // 2):
                where = packed + (group * group_step + 2 * pair * slot_step) * size
                named = indices + group * index_group_step + pair * index_slot_step
                _add_pair(
                    y, row * outputs, 0, whole, values, first, where, slot_step, named,
                    pattern, wide(sample), sample,
                )  # fmt: skip
                _add_pair(
                    y, row * outputs, whole, outputs, values, first, where, slot_step, named,
                    pattern, single(sample), sample,
                )  # fmt: skip
    finish_rows(y, rows, outputs, out, out_pitch, sample)


@compiled
def _add_pair(
    y: Any, first: int, start: int, stop: int, x: Any, member: int,
    where: int, slot_step: int, named: int, pattern: Any, vector: Any, sample: Any,
) -> None:  # fmt: skip
    """y[first + start:first + stop] += two slots of a group, whose x begins at x[member]."""
    table = x.ctypes.data + 4 * member
    target = y.ctypes.data + 4 * first
    for output in range(start, stop, lanes(vector)):
        low, high = looked_up(table, pattern, named + output, vector)
        at = where + output * width(sample)
        sum = load(target + 4 * output, _F32, vector)
        sum = multiply_add(low, load(at, sample, vector), sum)
        sum = multiply_add(high, load(at + slot_step * width(sample), sample, vector), sum)
        store(target + 4 * output, sum, _F32)
