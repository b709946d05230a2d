"""As ``masked``, with outputs in three segments that have thresholds of their own."""

from __future__ import annotations

import triton
import triton.language as tl


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
    threshold_1,
    threshold_2,
    threshold_3,
    x_row,
    x_channel,
    weight_output,
    weight_channel,
    ROWS: tl.constexpr,
    UNROLL: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
):
    split = tl.program_id(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None, None]
    lane = (
        tl.arange(0, UNROLL)[None, :, None, None] * LANES + tl.arange(0, LANES)[None, None, :, None]
    )
    output = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, None, None, :]
    columns = weight + output.to(tl.int64) * weight_output
    # Masks are made of comparisons of integers: of these Triton knows how many neighbours are
    # alike, which allows 16-byte loads; of a threshold per output it would know nothing.
    in_1 = output < second
    in_2 = (output >= second) & (output < third)
    in_3 = (output >= third) & (output < outputs)
    stop = tl.minimum(channels, (split + 1) * share)
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(split * share, stop, UNROLL * LANES):
        channel = start + lane
        value = tl.load(
            x + row * x_row + channel * x_channel,
            mask=(row < rows) & (channel < stop),
            other=0.0,
        ).to(tl.float32)
        size = tl.where(value != value, float("inf"), tl.abs(value))  # NaN is kept
        largest = size
        if ROWS > 1:
            largest = tl.max(size, axis=0, keep_dims=True)
        needed = (
            ((largest > threshold_1) & in_1)
            | ((largest > threshold_2) & in_2)
            | ((largest > threshold_3) & in_3)
        )
        factor = tl.load(
            columns + channel.to(tl.int64) * weight_channel,
            mask=needed,
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        term = value * factor
        if ROWS > 1:  # the weight may be there for another row only, and infinite
            limit = tl.where(in_1, threshold_1, tl.where(in_2, threshold_2, threshold_3))
            term = tl.where(size > limit, term, 0.0)
        total += tl.sum(term, axis=1, keep_dims=True)
    result = tl.sum(total, axis=2, keep_dims=True)
    if bias is not None:
        result += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)
    inside = (row < rows) & (output < outputs)
    if ATOMIC:
        tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")
    else:
        place = target + (split * rows + row) * outputs + output
        tl.store(place, result.to(target.dtype.element_ty), mask=inside)
