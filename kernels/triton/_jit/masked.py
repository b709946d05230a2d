"""Weights of channels whose size exceeds a threshold, times the activations of these channels."""

from __future__ import annotations

import triton
import triton.language as tl


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
    stop = tl.minimum(channels, (split + 1) * share)
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(split * share, stop, UNROLL * LANES):
        channel = start + lane
        inside = (row < rows) & (channel < stop)
        at = row * x_row + channel * x_channel
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if size is None:
            keep = ~(tl.abs(value) <= threshold)  # NaN is kept; what is outside, a zero, is not
        else:
            keep = ~(tl.abs(tl.load(size + at, mask=inside, other=0.0)) <= threshold)
        needed = keep
        if ROWS > 1:
            needed = tl.max(keep.to(tl.int32), axis=0, keep_dims=True) > 0
        factor = tl.load(
            columns + channel.to(tl.int64) * weight_channel,
            mask=needed & (output < outputs),
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        term = value * factor
        if ROWS > 1:  # the weight may be there for another row only, and infinite
            term = tl.where(keep, term, 0.0)
        total += tl.sum(term, axis=1, keep_dims=True)
    result = tl.sum(total, axis=2, keep_dims=True)
    if scales is not None:
        result *= tl.load(scales + output, mask=output < outputs, other=0.0).to(tl.float32)
    if bias is not None:
        result += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)
    inside = (row < rows) & (output < outputs)
    if ATOMIC:
        tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")
    else:
        place = target + (split * rows + row) * outputs + output
        tl.store(place, result.to(target.dtype.element_ty), mask=inside)
