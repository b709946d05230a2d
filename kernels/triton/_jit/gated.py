"""Hidden values of gated neurons whose activated gate exceeds a threshold."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.activation import activate


@triton.jit
def gated(
    x,
    gate,
    up,
    activated,  # float32 [rows, neurons]: act(gate x)
    hidden,  # float32 [rows, neurons]: that times up x, 0 where inactive
    rows,
    neurons,
    channels,
    threshold,
    x_row,
    x_channel,
    gate_neuron,
    gate_channel,
    up_neuron,
    up_channel,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    NEURONS: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    # Tiles are [ROWS, NEURONS, LANES, VECTOR]: a thread takes VECTOR channels that are next to
    # each other, of each neuron in turn.
    row = tl.arange(0, ROWS)[:, None, None, None]
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)[None, :, None, None]
    lane = (
        tl.arange(0, LANES)[None, None, :, None] * VECTOR
        + tl.arange(0, VECTOR)[None, None, None, :]
    )
    gate_rows = gate + neuron.to(tl.int64) * gate_neuron
    up_rows = up + neuron.to(tl.int64) * up_neuron
    total = tl.zeros([ROWS, NEURONS, LANES, 1], tl.float32)
    for start in range(0, channels, LANES * VECTOR):
        channel = start + lane
        value = tl.load(
            x + row * x_row + channel * x_channel,
            mask=(row < rows) & (channel < channels),
            other=0.0,
        ).to(tl.float32)
        factor = tl.load(
            gate_rows + channel.to(tl.int64) * gate_channel,
            mask=(neuron < neurons) & (channel < channels),
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        total += tl.sum(value * factor, axis=3, keep_dims=True)
    a = activate(tl.sum(total, axis=2, keep_dims=True), ACTIVATION)
    inside = (row < rows) & (neuron < neurons)
    keep = ~(tl.abs(a) <= threshold) & inside
    needed = tl.max(keep.to(tl.int32), axis=0, keep_dims=True) > 0
    total = tl.zeros([ROWS, NEURONS, LANES, 1], tl.float32)
    for start in range(0, channels, LANES * VECTOR):
        channel = start + lane
        value = tl.load(
            x + row * x_row + channel * x_channel,
            mask=(row < rows) & (channel < channels),
            other=0.0,
        ).to(tl.float32)
        factor = tl.load(
            up_rows + channel.to(tl.int64) * up_channel,
            mask=needed & (channel < channels),
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        total += tl.sum(value * factor, axis=3, keep_dims=True)
    at = row * neurons + neuron
    h = tl.where(keep, a * tl.sum(total, axis=2, keep_dims=True), 0.0)
    tl.store(activated + at, a, mask=inside)
    tl.store(hidden + at, h, mask=inside)
