"""As ``masked``, with outputs in three segments that have thresholds of their own."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights
from pytest_sparsity.kernels.triton._jit.products import finish, part


@triton.jit
def segmented(
    x,
    weight,
    bias,  # [outputs] or None
    target,  # [splits, rows, outputs]
    rows,
    second,  # first output of the second segment
    third,  # first output of the third segment
    outputs,
    channels,
    share,  # channels per split
    threshold_1, threshold_2, threshold_3,
    x_row, x_channel, weight_output, weight_channel,
    ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    row, lane, output, begin, stop = part(channels, share, ROWS, UNROLL, LANES, BLOCK)
    # Masks are made of comparisons of integers: of these Triton knows how many neighbours are
    # alike, which allows 16-byte loads; of a threshold per output it would know nothing.
    in_1 = output < second
    in_2 = (output >= second) & (output < third)
    in_3 = (output >= third) & (output < outputs)
    columns = weight + output.to(tl.int64) * weight_output
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(begin, stop, UNROLL * LANES):
        channel = start + lane
        inside = (row < rows) & (channel < stop)
        value = load_activations(x + row * x_row + channel * x_channel, inside)
        size = tl.where(value != value, float("inf"), tl.abs(value))  # NaN is kept
        largest = size
        if ROWS > 1:
            largest = tl.max(size, axis=0, keep_dims=True)
        needed = (
            ((largest > threshold_1) & in_1)
            | ((largest > threshold_2) & in_2)
            | ((largest > threshold_3) & in_3)
        )
        term = value * load_weights(columns + channel.to(tl.int64) * weight_channel, needed)
        if ROWS > 1:  # the weight may be there for another row only, and infinite
            limit = tl.where(in_1, threshold_1, tl.where(in_2, threshold_2, threshold_3))
            term = tl.where(size > limit, term, 0.0)
        total += tl.sum(term, axis=1, keep_dims=True)
    finish(total, None, bias, target, row, output, rows, outputs, ATOMIC)
