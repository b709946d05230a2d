"""As ``masked``, with weights in four bits that have a scale per channel and group of outputs.

The last dimension of a tile is split in two: blocks of bytes that share a scale, and the bytes
of a block.  A byte holds two outputs, half a row apart (``reference.quantization``).
"""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations


@triton.jit
def nibbles(
    x,
    payload,  # uint8 [channels, width]
    scales,  # [channels, 2 * width / group]
    bias,  # [outputs] or None
    target,  # [splits, rows, outputs]
    rows,
    outputs,
    width,  # bytes per channel
    group,  # outputs that share a scale
    channels,
    share,  # channels per split
    threshold,
    x_row, x_channel, payload_channel, scales_channel,
    ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    BYTES: tl.constexpr,  # that share a scale; divides BLOCK, group and width
    ATOMIC: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = BLOCK // BYTES
    split = tl.program_id(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None, None, None]
    lane = (
        tl.arange(0, UNROLL)[None, :, None, None, None] * LANES
        + tl.arange(0, LANES)[None, None, :, None, None]
    )
    block = (tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)[None, None, None, :, None]) * BYTES
    byte = block + tl.arange(0, BYTES)[None, None, None, None, :]
    both = scales + (block + width * tl.arange(0, 2)[None, None, None, None, :]) // group
    stop = tl.minimum(channels, (split + 1) * share)
    low = tl.zeros([ROWS, 1, LANES, BLOCKS, BYTES], tl.float32)
    high = tl.zeros([ROWS, 1, LANES, BLOCKS, BYTES], tl.float32)
    for start in range(split * share, stop, UNROLL * LANES):
        channel = start + lane
        inside = (row < rows) & (channel < stop)
        value = load_activations(x + row * x_row + channel * x_channel, inside)
        keep = ~(tl.abs(value) <= threshold)  # NaN is kept; what is outside, a zero, is not
        needed = keep
        if ROWS > 1:
            needed = tl.max(keep.to(tl.int32), axis=0, keep_dims=True) > 0
        channel = channel.to(tl.int64)
        pair = tl.load(
            payload + channel * payload_channel + byte,
            mask=needed & (byte < width),
            other=0,
            eviction_policy="evict_first",
        )
        scaled = needed & (block < width)
        at = channel * scales_channel
        low_scale, high_scale = tl.split(tl.load(both + at, mask=scaled, other=0.0).to(tl.float32))
        low_scale = low_scale[:, :, :, :, None]
        high_scale = high_scale[:, :, :, :, None]
        # Of a weight that is there for another row only, the scale may be infinite.
        low_value = tl.where(keep, value * low_scale, 0.0)
        high_value = tl.where(keep, value * high_scale, 0.0)
        low_nibble = (pair & 15).to(tl.float32) - 8.0
        high_nibble = (pair >> 4).to(tl.float32) - 8.0
        low += tl.sum(low_value * low_nibble, axis=1, keep_dims=True)
        high += tl.sum(high_value * high_nibble, axis=1, keep_dims=True)
    low = tl.sum(low, axis=2, keep_dims=True)
    high = tl.sum(high, axis=2, keep_dims=True)
    in_low = (byte < width) & (byte < outputs)
    in_high = (byte < width) & (byte + width < outputs)
    if bias is not None:
        low += tl.load(bias + byte, mask=in_low, other=0.0).to(tl.float32)
        high += tl.load(bias + byte + width, mask=in_high, other=0.0).to(tl.float32)
    in_low &= row < rows
    in_high &= row < rows
    if ATOMIC:
        place = target + row * outputs + byte
        tl.atomic_add(place, low, mask=in_low, sem="relaxed")
        tl.atomic_add(place + width, high, mask=in_high, sem="relaxed")
    else:
        place = target + (split * rows + row) * outputs + byte
        tl.store(place, low.to(target.dtype.element_ty), mask=in_low)
        tl.store(place + width, high.to(target.dtype.element_ty), mask=in_high)
