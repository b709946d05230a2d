"""Which activations take part, and what goes in and comes out, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._rows import add_channels, dots, eight
from pytest_sparsity.kernels.cpu._vectors import (
    lanes,
    load,
    magnitude,
    magnitude_of,
    number,
    single,
    store,
    wide,
    width,
)

#: Channels that one row of x after the other multiplies, while their weights are in the cache.
_CHUNK = 32
_F32 = np.float32(0)


@compiled
def read(x: int, pitch: int, step: int, rows: int, channels: int, sample: Any) -> Any:
    """Read x [rows, channels] at an address, its steps in numbers: float32 [rows * channels]."""
    size = width(sample)
    values = np.empty(rows * channels, np.float32)
    for row in range(rows):
        start = x + row * pitch * size
        for channel in range(channels):
            values[row * channels + channel] = number(start + channel * step * size, sample)
    return values


@compiled
def compare(
    x: int, pitch: int, step: int, rows: int, channels: int, threshold: float, keep: Any,
    sample: Any,
) -> None:  # fmt: skip
    """keep[row * channels + channel] = whether the activation is active: not |x| <= t."""
    size = width(sample)
    limit = magnitude_of(np.float32(threshold), sample)  # by way of float32, as torch rounds
    for row in range(rows):
        start = x + row * pitch * size
        for channel in range(channels):
            bits = magnitude(start + channel * step * size, sample)
            keep[row * channels + channel] = bits > limit


@compiled
def compact(keep: Any, rows: int, channels: int, listed: Any) -> int:
    """Write which channels some row keeps to ``listed``, int32; return how many they are."""
    count = 0
    for channel in range(channels):
        kept = keep[channel]
        for row in range(1, rows):
            kept |= keep[row * channels + channel]
        listed[count] = channel  # the next one overwrites it unless it is kept
        count += kept
    return count


@compiled
def selected(
    x: int, pitch: int, step: int, rows: int, channels: int, threshold: float, sample: Any
) -> Any:
    """What :func:`read` reads, and bool [rows * channels]: which are active."""
    values = read(x, pitch, step, rows, channels, sample)
    keep = np.empty(rows * channels, np.bool_)
    compare(x, pitch, step, rows, channels, threshold, keep, sample)
    return values, keep


@compiled
def add_kept(
    y: Any, outputs: int, values: Any, keep: Any, rows: int, channels: int,
    listed: Any, count: int, weight: int, output_step: int, channel_step: int, sample: Any,
) -> None:  # fmt: skip
    """Y += W[:, listed] values[:, listed], for each row over the channels that it keeps.

    Args:
        y: float32 [rows * outputs].
        outputs: of the weight.
        values: float32 [rows * channels].
        keep: bool [rows * channels].
        rows: of y, values and keep.
        channels: of the weight.
        listed: int32 [count], ascending.
        count: how many channels some row keeps.
        weight: address; from output to output ``output_step`` numbers, and so on.
        output_step: see weight.
        channel_step: see weight.
        sample: of the weight.
    """
    size = width(sample)
    chunk = max(count, 1) if rows == 1 else _CHUNK
    own_channels = np.empty(chunk, np.int32)
    own_values = np.empty(chunk, np.float32)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        for row in range(rows):
            own = 0
            for j in range(start, stop):
                at = row * channels + listed[j]
                own_channels[own] = listed[j]
                own_values[own] = values[at]
                own += keep[at]
            add_channels(
                y, row * outputs, outputs, weight, output_step * size, channel_step * size,
                own_channels, own_values, own, sample,
            )  # fmt: skip


@compiled
def multiply_kept(
    products: Any, neurons: int, values: Any, keep: Any, rows: int, channels: int,
    listed: Any, count: int, weight: int, neuron_step: int, channel_step: int, sample: Any,
) -> None:  # fmt: skip
    """Products[:, listed] = values W[listed].T, for each row the neurons that it keeps.

    As in :func:`add_kept`, but that it is neurons of the weight, and not channels, that a row
    keeps, that are listed and counted; products are float32 [rows * neurons], keep bool
    [rows * neurons].
    """
    size = width(sample)
    pitch = neuron_step * size
    chunk = max(count, 1) if rows == 1 else _CHUNK
    own_neurons = np.empty(chunk, np.int32)
    found = np.empty(8, np.float32)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        for row in range(rows):
            own = 0
            for j in range(start, stop):
                own_neurons[own] = listed[j]
                own += keep[row * neurons + listed[j]]
            for j in range(0, own, 8):
                dots(
                    values, row * channels, eight(weight, pitch, own_neurons, j, own),
                    channel_step * size, channels, eight(weight, pitch, own_neurons, j + 8, own),
                    found, sample,
                )  # fmt: skip
                for g in range(min(8, own - j)):
                    products[row * neurons + own_neurons[j + g]] = found[g]


@compiled
def started(rows: int, outputs: int, bias: int, step: int, sample: Any) -> Any:
    """Rows of the bias at an address, its step in numbers, or of 0: float32 [rows * outputs]."""
    y = np.zeros(rows * outputs, np.float32)
    if bias:
        for output in range(outputs):
            value = number(bias + output * step * width(sample), sample)
            for row in range(rows):
                y[row * outputs + output] = value
    return y


@compiled
def finish(y: Any, first: int, outputs: int, out: int, sample: Any) -> None:
    """Out = y[first:first + outputs], rounded to numbers of the sample's kind."""
    vector = wide(sample)
    whole = outputs - outputs % lanes(vector)
    start = y.ctypes.data + 4 * first
    for output in range(0, whole, lanes(vector)):
        store(out + output * width(sample), load(start + 4 * output, _F32, vector), sample)
    for output in range(whole, outputs):
        store(out + output * width(sample), load(start + 4 * output, _F32, single(sample)), sample)


@compiled
def finish_rows(y: Any, rows: int, outputs: int, out: int, pitch: int, sample: Any) -> None:
    """:func:`finish` for y [rows * outputs], from row to row of out ``pitch`` numbers."""
    for row in range(rows):
        finish(y, row * outputs, outputs, out + row * pitch * width(sample), sample)
