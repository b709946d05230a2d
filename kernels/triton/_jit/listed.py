"""Weights of listed channels, times the activations of these channels."""

from __future__ import annotations

import triton
import triton.language as tl


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
    x_row,
    x_channel,
    weight_output,
    weight_channel,
    PACKED: tl.constexpr,  # x holds the channels that take part and no others
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
    stop = tl.minimum(count, (split + 1) * share)
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(split * share, stop, UNROLL * LANES):
        place = start + lane
        inside = place < stop
        cold = tl.load(indices + place - first, mask=inside & (place >= first), other=0)
        channel = tl.where(place < first, place, cold)
        source = channel
        if PACKED:
            source = place
        value = tl.load(
            x + row * x_row + source * x_channel, mask=(row < rows) & inside, other=0.0
        ).to(tl.float32)
        factor = tl.load(
            columns + channel.to(tl.int64) * weight_channel,
            mask=inside & (output < outputs),
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        total += tl.sum(value * factor, axis=1, keep_dims=True)
    result = tl.sum(total, axis=2, keep_dims=True)
    if bias is not None:
        result += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)
    inside = (row < rows) & (output < outputs)
    if ATOMIC:
        tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")
    else:
        place = target + (split * rows + row) * outputs + output
        tl.store(place, result.to(target.dtype.element_ty), mask=inside)
