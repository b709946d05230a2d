"""Weights of which each output keeps n of every m channels, times the activations they name.

A tile takes pairs of slots where other kernels take channels: a pair shares a byte of indices,
and its two rows of values follow each other (``reference.semi_structured``).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def slots(
    x,
    values,  # [groups, 2 * PAIRS, outputs]
    indices,  # uint8 [groups, PAIRS, outputs]
    bias,  # [outputs] or None
    target,  # [splits, rows, outputs]
    rows,
    outputs,
    pairs,  # of all groups
    share,  # pairs per split
    threshold,
    x_row,
    x_channel,
    values_group,
    values_slot,
    indices_group,
    indices_pair,
    CHANNELS: tl.constexpr,  # per group
    PAIRS: tl.constexpr,  # per group
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
    member = tl.arange(0, CHANNELS)[None, None, None, :]
    stop = tl.minimum(pairs, (split + 1) * share)
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(split * share, stop, UNROLL * LANES):
        pair = start + lane
        group = pair // PAIRS
        first = x + row * x_row + group * CHANNELS * x_channel
        inside = (row < rows) & (pair < stop)
        near = tl.load(first + member * x_channel, mask=inside, other=0.0).to(tl.float32)
        active = (~(tl.abs(near) <= threshold)).to(tl.int32)
        active = tl.max(active, axis=3, keep_dims=True)
        needed = tl.max(active, axis=0, keep_dims=True) > 0
        wanted = needed & (output < outputs)
        group = group.to(tl.int64)
        within = pair % PAIRS
        place = indices + group * indices_group + within * indices_pair + output
        index = tl.load(place, mask=wanted, other=0, eviction_policy="evict_first")
        place = values + group * values_group + within * 2 * values_slot + output
        even = tl.load(place, mask=wanted, other=0.0, eviction_policy="evict_first")
        odd = tl.load(place + values_slot, mask=wanted, other=0.0, eviction_policy="evict_first")
        gather = inside & wanted
        even_at = (index & 15).to(tl.int32) * x_channel
        odd_at = (index >> 4).to(tl.int32) * x_channel
        even_x = tl.load(first + even_at, mask=gather, other=0.0).to(tl.float32)
        odd_x = tl.load(first + odd_at, mask=gather, other=0.0).to(tl.float32)
        # Within a group that is needed, channels may be inactive.
        term = tl.where(tl.abs(even_x) <= threshold, 0.0, even_x * even.to(tl.float32))
        term += tl.where(tl.abs(odd_x) <= threshold, 0.0, odd_x * odd.to(tl.float32))
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
