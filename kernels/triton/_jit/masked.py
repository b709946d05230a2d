"""Weights of channels whose size exceeds a threshold, times the activations of these channels."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights
from pytest_sparsity.kernels.triton._jit.products import finish, part


@triton.jit
def masked(
    x,
    size,  # what is compared with the threshold, laid out like x; None: x itself
    weight,
    scales,  # [outputs] or None
    bias,  # [outputs] or None
    target,  # [splits, rows, outputs]
    rows,
    outputs,
    channels,
    share,  # channels per split
    threshold,
    x_row, x_channel, weight_output, weight_channel,
    ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    row, lane, output, begin, stop = part(channels, share, ROWS, UNROLL, LANES, BLOCK)
    columns = weight + output.to(tl.int64) * weight_output
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(begin, stop, UNROLL * LANES):
        channel = start + lane
        inside = (row < rows) & (channel < stop)
        at = row * x_row + channel * x_channel
        value = load_activations(x + at, inside)
        if size is None:
            keep = ~(tl.abs(value) <= threshold)  # NaN is kept; what is outside, a zero, is not
        else:
            keep = ~(tl.abs(tl.load(size + at, mask=inside, other=0.0)) <= threshold)
        needed = keep
        if ROWS > 1:
            needed = tl.max(keep.to(tl.int32), axis=0, keep_dims=True) > 0
        column = columns + channel.to(tl.int64) * weight_channel
        term = value * load_weights(column, needed & (output < outputs))
        if ROWS > 1:  # the weight may be there for another row only, and infinite
            term = tl.where(keep, term, 0.0)
        total += tl.sum(term, axis=1, keep_dims=True)
    finish(total, scales, bias, target, row, output, rows, outputs, ATOMIC)
