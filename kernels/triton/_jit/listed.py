"""Weights of listed channels, times the activations of these channels."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights
from pytest_sparsity.kernels.triton._jit.products import finish, part


@triton.jit
def listed(
    x,
    weight,
    indices,  # int32 [count - first]
    bias,  # [outputs] or None
    target,  # [splits, rows, outputs]
    rows,
    outputs,
    first,  # channels 0 to first - 1 take part too, before the listed ones
    count,  # of all channels that take part
    share,  # of them per split
    x_row, x_channel, weight_output, weight_channel,
    ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
    PACKED: tl.constexpr,  # x holds the channels that take part and no others
):  # fmt: skip
    row, lane, output, begin, stop = part(count, share, ROWS, UNROLL, LANES, BLOCK)
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    columns = weight + output.to(tl.int64) * weight_output
    for start in range(begin, stop, UNROLL * LANES):
        place = start + lane
        inside = place < stop
        cold = tl.load(indices + place - first, mask=inside & (place >= first), other=0)
        channel = tl.where(place < first, place, cold)
        source = channel
        if PACKED:
            source = place
        value = load_activations(x + row * x_row + source * x_channel, (row < rows) & inside)
        column = columns + channel.to(tl.int64) * weight_channel
        factor = load_weights(column, inside & (output < outputs))
        total += tl.sum(value * factor, axis=1, keep_dims=True)
    finish(total, None, bias, target, row, output, rows, outputs, ATOMIC)
