"""Linear layers over some of their channels, compiled.

Addresses and steps are as torch gives them: a step is a number of elements.  ``x`` is at an
address, ``x_pitch`` from row to row and ``x_step`` from channel to channel; the weight is
``output_step`` from output to output and ``channel_step`` from channel to channel; ``bias`` is 0
for none; the outputs of a row of ``out`` are beside each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._activations import (
    add_kept,
    compact,
    compare,
    finish_rows,
    read,
    selected,
    started,
)
from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._rows import dot
from pytest_sparsity.kernels.cpu._vectors import integer, long_integer, width


@compiled
def sparse_linear(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    weight: int, output_step: int, channel_step: int, outputs: int,
    threshold: float, bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Out = W S_t(x) + b."""
    values, keep = selected(x, x_pitch, x_step, rows, channels, threshold, sample)
    listed = np.empty(channels, np.int32)
    count = compact(keep, rows, channels, listed)
    _multiply(
        values, keep, rows, channels, listed, count, weight, output_step, channel_step, outputs,
        bias, bias_step, out, out_pitch, sample,
    )  # fmt: skip


@compiled
def _multiply(
    values: Any, keep: Any, rows: int, channels: int, listed: Any, count: int,
    weight: int, output_step: int, channel_step: int, outputs: int,
    bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Out = W[:, listed] values[:, listed] + b, for each row over the channels that it keeps."""
    y = started(rows, outputs, bias, bias_step, sample)
    add_kept(
        y, outputs, values, keep, rows, channels, listed, count,
        weight, output_step, channel_step, sample,
    )  # fmt: skip
    finish_rows(y, rows, outputs, out, out_pitch, sample)


@compiled
def prepared_sparse_linear(
    fixed: int, x: int, rows: int, out: int, threshold: float, sample: Any
) -> None:
    """Like :func:`sparse_linear` for contiguous x and out.

    From cold caches every argument takes a quarter of a microsecond to pass, so those that stay
    the same are read from seven int64 at address ``fixed``: channels, the weight's address and
    steps, outputs, the bias's address and step.
    """
    channels, outputs = long_integer(fixed), long_integer(fixed + 32)
    sparse_linear(
        x, channels, 1, rows, channels,
        long_integer(fixed + 8), long_integer(fixed + 16), long_integer(fixed + 24), outputs,
        threshold, long_integer(fixed + 40), long_integer(fixed + 48), out, outputs, sample,
    )  # fmt: skip


@compiled
def sparse_linear_indexed(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    weight: int, output_step: int, channel_step: int, outputs: int,
    indices: int, index_step: int, count: int,
    bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Out = W[:, idx] x[:, idx] + b for the ``count`` int32 at address ``indices``."""
    values = read(x, x_pitch, x_step, rows, channels, sample)
    keep = np.ones(rows * channels, np.bool_)
    _multiply(
        values, keep, rows, channels, integers(indices, index_step, count), count,
        weight, output_step, channel_step, outputs, bias, bias_step, out, out_pitch, sample,
    )  # fmt: skip


@compiled
def sparse_qkv(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    weight: int, output_step: int, channel_step: int, sizes: Any,
    thresholds: Any, bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Three times :func:`sparse_linear`, for outputs that follow each other."""
    size = width(sample)
    values = read(x, x_pitch, x_step, rows, channels, sample)
    keep = np.empty(rows * channels, np.bool_)
    listed = np.empty(channels, np.int32)
    first = 0
    for part in range(3):
        compare(x, x_pitch, x_step, rows, channels, thresholds[part], keep, sample)
        count = compact(keep, rows, channels, listed)
        start = bias + first * bias_step * size if bias else 0
        _multiply(
            values, keep, rows, channels, listed, count,
            weight + first * output_step * size, output_step, channel_step, sizes[part],
            start, bias_step, out + first * size, out_pitch, sample,
        )  # fmt: skip
        first += sizes[part]


@compiled
def active_channels(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int, threshold: float, listed: Any,
    sample: Any,
) -> int:  # fmt: skip
    """Write the channels that are active in some row to ``listed``; return how many."""
    keep = np.empty(rows * channels, np.bool_)
    compare(x, x_pitch, x_step, rows, channels, threshold, keep, sample)
    return compact(keep, rows, channels, listed)


@compiled
def integers(start: int, step: int, count: int) -> Any:
    """The int32 at an address."""
    found = np.empty(count, np.int32)
    for j in range(count):
        found[j] = integer(start + 4 * step * j)
    return found


@compiled
def dense_linear(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    weight: int, output_step: int, channel_step: int, outputs: int,
    bias: int, bias_step: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """Out = W x + b: dot products with the rows of outputs."""
    size = width(sample)
    values = read(x, x_pitch, x_step, rows, channels, sample)
    y = started(rows, outputs, bias, bias_step, sample)
    for output in range(outputs):
        at = weight + output * output_step * size
        for row in range(rows):
            y[row * outputs + output] += dot(
                values, row * channels, at, channel_step * size, channels, sample
            )
    finish_rows(y, rows, outputs, out, out_pitch, sample)
