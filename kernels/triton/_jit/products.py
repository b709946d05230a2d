"""What the kernels of products share: which part is a program's, and where its sums go."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def part(
    channels, share, ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The part of this program: rows, channels of the first tile, outputs; start and stop.

    Rows, channels and outputs are in the layout of tiles; ``share`` of the ``channels`` belong to
    this program's split, from start to stop.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None, None]
    lane = (
        tl.arange(0, UNROLL)[None, :, None, None] * LANES + tl.arange(0, LANES)[None, None, :, None]
    )
    output = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, None, None, :]
    start = tl.program_id(2) * share
    return row, lane, output, start, tl.minimum(channels, start + share)


@triton.jit
def finish(total, scales, bias, target, row, output, rows, outputs, ATOMIC: tl.constexpr):
    """Add up the lanes' sums, [ROWS, 1, LANES, BLOCK]; times scales, plus bias, to the target.

    The target is [splits, rows, outputs], or [rows, outputs] for atomics; scales and bias are
    [outputs] or None.
    """
    result = tl.sum(total, axis=2, keep_dims=True)
    if scales is not None:
        result *= tl.load(scales + output, mask=output < outputs, other=0.0).to(tl.float32)
    if bias is not None:
        result += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)
    inside = (row < rows) & (output < outputs)
    if ATOMIC:
        tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")
    else:
        place = target + (tl.program_id(2) * rows + row) * outputs + output
        tl.store(place, result.to(target.dtype.element_ty), mask=inside)
