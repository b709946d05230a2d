"""Weights of which each output keeps n of every m channels, times the activations they name.

A tile takes pairs of slots where other kernels take channels: a pair shares a byte of indices,
and its two rows of values follow each other (``reference.semi_structured``).
"""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights
from pytest_sparsity.kernels.triton._jit.products import finish, part


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
    x_row, x_channel, values_group, values_slot, indices_group, indices_pair,
    CHANNELS: tl.constexpr,  # per group
    PAIRS: tl.constexpr,  # per group
    ROWS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    row, lane, output, begin, stop = part(pairs, share, ROWS, UNROLL, LANES, BLOCK)
    member = tl.arange(0, CHANNELS)[None, None, None, :]
    total = tl.zeros([ROWS, 1, LANES, BLOCK], tl.float32)
    for start in range(begin, stop, UNROLL * LANES):
        pair = start + lane
        group = pair // PAIRS
        first = x + row * x_row + group * CHANNELS * x_channel
        inside = (row < rows) & (pair < stop)
        near = load_activations(first + member * x_channel, inside)
        active = (~(tl.abs(near) <= threshold)).to(tl.int32)
        active = tl.max(active, axis=3, keep_dims=True)
        needed = tl.max(active, axis=0, keep_dims=True) > 0
        wanted = needed & (output < outputs)
        group = group.to(tl.int64)
        within = pair % PAIRS
        place = indices + group * indices_group + within * indices_pair + output
        index = tl.load(place, mask=wanted, other=0, eviction_policy="evict_first")
        place = values + group * values_group + within * 2 * values_slot + output
        even = load_weights(place, wanted)
        odd = load_weights(place + values_slot, wanted)
        gather = inside & wanted
        even_at = (index & 15).to(tl.int32) * x_channel
        odd_at = (index >> 4).to(tl.int32) * x_channel
        even_x = load_activations(first + even_at, gather)
        odd_x = load_activations(first + odd_at, gather)
        # Within a group that is needed, channels may be inactive.
        term = tl.where(tl.abs(even_x) <= threshold, 0.0, even_x * even)
        term += tl.where(tl.abs(odd_x) <= threshold, 0.0, odd_x * odd)
        total += tl.sum(term, axis=1, keep_dims=True)
    finish(total, None, bias, target, row, output, rows, outputs, ATOMIC)
