"""Sums of weighted rows, and products with rows: what all kernels here are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._vectors import (
    LINE,
    add,
    add_products,
    lanes,
    load,
    multiply_add,
    number,
    prefetch,
    single,
    store,
    total,
    totals,
    weighted_sum,
    wide,
    width,
)

#: How far ahead of its use memory is asked for, bytes.  Processors fetch ahead by themselves, but
#: begin anew at every row.
AHEAD = 1024
_F32 = np.float32(0)


@compiled
def add_channels(
    y: Any, first: int, outputs: int, weight: int, output_step: int, channel_step: int,
    channels: Any, values: Any, count: int, sample: Any,
) -> None:  # fmt: skip
    """y[first:first + outputs] += sum over j < count of values[j] * W[:, channels[j]].

    Args:
        y: float32.
        first: the first to add to.
        outputs: how many.
        weight: address of W[0, 0].
        output_step: bytes from output to output.
        channel_step: bytes from channel to channel.
        channels: int32 [count].
        values: float32 [count].
        count: how many channels to add.
        sample: of the weight.
    """
    if output_step == width(sample) or outputs == 1:
        start = y.ctypes.data + 4 * first
        _add_rows(start, outputs, weight, channel_step, channels, values, count, sample)
    else:
        for output in range(outputs):
            row = weight + output * output_step
            dot = np.float32(0)
            for j in range(count):
                dot += values[j] * number(row + np.int64(channels[j]) * channel_step, sample)
            y[first + output] += dot


@compiled
def _add_rows(
    y: int, outputs: int, weight: int, pitch: int, channels: Any, values: Any, count: int,
    sample: Any,
) -> None:  # fmt: skip
    j = 0
    while j < count:
        rows = eight(weight, pitch, channels, j, count)
        later = eight(weight, pitch, channels, j + 8, count)
        factors = factors_of(values, j, count)
        left = count - j
        if left >= 8:
            _add(y, outputs, rows, factors, later, sample)
            j += 8
        elif left >= 4:
            _add(y, outputs, rows[:4], factors[:4], rows[4:], sample)
            j += 4
        elif left >= 2:
            _add(y, outputs, rows[:2], factors[:2], rows[2:4], sample)
            j += 2
        else:
            _add(y, outputs, rows[:1], factors[:1], rows[:1], sample)
            j += 1


@compiled
def eight(weight: int, pitch: int, channels: Any, j: int, count: int) -> Any:
    """The addresses of eight rows from the j-th; the last again where there are no more."""
    return (
        _row(weight, pitch, channels, j, count),
        _row(weight, pitch, channels, j + 1, count),
        _row(weight, pitch, channels, j + 2, count),
        _row(weight, pitch, channels, j + 3, count),
        _row(weight, pitch, channels, j + 4, count),
        _row(weight, pitch, channels, j + 5, count),
        _row(weight, pitch, channels, j + 6, count),
        _row(weight, pitch, channels, j + 7, count),
    )


@compiled
def _row(weight: int, pitch: int, channels: Any, j: int, count: int) -> Any:
    return weight + np.int64(channels[min(j, count - 1)]) * pitch


@compiled
def factors_of(values: Any, j: int, count: int) -> Any:
    last = count - 1
    return (
        values[j],
        values[min(j + 1, last)],
        values[min(j + 2, last)],
        values[min(j + 3, last)],
        values[min(j + 4, last)],
        values[min(j + 5, last)],
        values[min(j + 6, last)],
        values[min(j + 7, last)],
    )


@compiled
def _add(y: int, outputs: int, rows: Any, factors: Any, later: Any, sample: Any) -> None:
    """y[0:outputs] += the rows' sum; the beginning of the rows that come later is fetched."""
    vector = wide(sample)
    whole = outputs - outputs % lanes(vector)
    size = whole * width(sample)
    ahead = min(AHEAD, size)
    _span(y, 0, size - ahead, rows, factors, rows, ahead, sample, vector)
    _span(y, size - ahead, size, rows, factors, later, ahead - size, sample, vector)
    end = outputs * width(sample)
    _span(y, size, end, rows, factors, rows, 0, sample, single(sample))


@compiled
def _span(
    y: int, start: int, stop: int, rows: Any, factors: Any, fetched: Any, ahead: int,
    sample: Any, vector: Any,
) -> None:  # fmt: skip
    step = lanes(vector) * width(sample)
    for offset in range(start, stop, step):
        prefetch(fetched, offset + ahead)
        target = y + offset // width(sample) * 4
        product = weighted_sum(rows, offset, factors, sample, vector)
        store(target, add(load(target, _F32, vector), product), _F32)


@compiled
def dot(x: Any, first: int, row: int, step: int, channels: int, sample: Any) -> Any:
    """Sum over channels of x[first + channel] times the number at row + channel * step.

    Args:
        x: float32.
        first: of x.
        row: address of weights.
        step: bytes from one to the next.
        channels: how many.
        sample: of the weights.
    """
    sum = np.float32(0)
    start = 0
    if step == width(sample):
        vector = wide(sample)
        size = lanes(vector)
        values = x.ctypes.data + 4 * first
        fours = channels - channels % (4 * size)
        start = channels - channels % size
        sums = _dots(values, 0, fours, row, (vector, vector, vector, vector), sample)
        rest = sums[0]
        for channel in range(fours, start, size):
            at = row + channel * step
            rest = multiply_add(
                load(values + 4 * channel, _F32, rest), load(at, sample, rest), rest
            )
        sum += total(add(add(rest, sums[1]), add(sums[2], sums[3])))
    for channel in range(start, channels):
        sum += x[first + channel] * number(row + channel * step, sample)
    return sum


@compiled
def _dots(values: int, start: int, stop: int, row: int, sums: Any, sample: Any) -> Any:
    """Four sums, each of every fourth vector: a sum alone would wait for itself."""
    a, b, c, d = sums
    size = lanes(a)
    for channel in range(start, stop, 4 * size):
        x = values + 4 * channel
        at = row + channel * width(sample)
        a = multiply_add(load(x, _F32, a), load(at, sample, a), a)
        b = multiply_add(load(x + 4 * size, _F32, b), load(at + LINE, sample, b), b)
        c = multiply_add(load(x + 8 * size, _F32, c), load(at + 2 * LINE, sample, c), c)
        d = multiply_add(load(x + 12 * size, _F32, d), load(at + 3 * LINE, sample, d), d)
    return a, b, c, d


@compiled
def dots(
    x: Any, first: int, rows: Any, step: int, channels: int, later: Any, products: Any, sample: Any
) -> None:
    """products[g] = sum over channels of x[first + channel] times the number of eight rows.

    Every product is the same sum in the same order, whatever the other rows are.

    Args:
        x: float32.
        first: of x.
        rows: eight addresses of weights.
        step: bytes from one channel to the next.
        channels: how many.
        later: the rows that come next, to fetch their beginnings.
        products: float32 [8].
        sample: of the weights.
    """
    values = x.ctypes.data + 4 * first
    size = lanes(wide(sample))
    whole = channels - channels % size if step == width(sample) else 0
    ahead = min(AHEAD // step, whole)
    cut = whole - ahead
    sums = _octet(wide(sample))
    sums = _products(values, 0, cut, rows, step, rows, ahead * step, sums, sample)
    sums = _products(values, cut, whole, rows, step, later, -cut * step, sums, sample)
    rest = _octet(single(sample))
    rest = _products(values, whole, channels, rows, step, rows, 0, rest, sample)
    store(products.ctypes.data, add(totals(sums), totals(rest)), _F32)


@compiled
def _products(
    values: int, start: int, stop: int, rows: Any, step: int, fetched: Any, ahead: int, sums: Any,
    sample: Any,
) -> Any:  # fmt: skip
    for channel in range(start, stop, lanes(sums[0])):
        prefetch(fetched, channel * step + ahead)
        x = load(values + 4 * channel, _F32, sums[0])
        sums = add_products(sums, x, rows, channel * step, sample)
    return sums


@compiled
def _octet(vector: Any) -> Any:
    return vector, vector, vector, vector, vector, vector, vector, vector
