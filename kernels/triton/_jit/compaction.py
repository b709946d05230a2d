"""The ascending list of channels that are active in some row, by one program."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def compaction(
    x,
    target,  # int32 [channels]
    count,  # int32 [1]
    rows,
    channels,
    threshold,
    x_row,
    x_channel,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.arange(0, ROWS)[:, None]
    found = 0
    for start in range(0, channels, BLOCK):
        channel = start + tl.arange(0, BLOCK)
        value = tl.load(
            x + row * x_row + channel[None, :] * x_channel,
            mask=(row < rows) & (channel < channels)[None, :],
            other=0.0,
        ).to(tl.float32)
        keep = ~(tl.abs(value) <= threshold)  # NaN is kept; what is outside, a zero, is not
        active = tl.max(keep.to(tl.int32), axis=0)
        place = found + tl.cumsum(active, axis=0) - active
        tl.store(target + place, channel, mask=active > 0)
        found += tl.sum(active, axis=0)
    tl.store(count, found)
