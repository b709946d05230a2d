"""Hidden values of the first neurons and of listed ones."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.activation import activate
from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights
from pytest_sparsity.kernels.triton._jit.neurons import channels_of_lanes


@triton.jit
def predicted(
    x,
    gate,  # or None
    up,
    indices,  # int32 [count - first]
    hidden,  # float32 [rows, count]
    rows,
    first,  # neurons 0 to first - 1 take part, then the listed ones
    count,  # of neurons that take part
    channels,
    x_row, x_channel, gate_neuron, gate_channel, up_neuron, up_channel,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr, NEURONS: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)[None, :, None, None]
    known = place < count
    cold = tl.load(indices + place - first, mask=known & (place >= first), other=0)
    neuron = tl.where(place < first, place, cold).to(tl.int64)
    row = tl.arange(0, ROWS)[:, None, None, None]
    lane = channels_of_lanes(LANES, VECTOR)
    up_total = tl.zeros([ROWS, NEURONS, LANES, 1], tl.float32)
    gate_total = tl.zeros([ROWS, NEURONS, LANES, 1], tl.float32)
    for start in range(0, channels, LANES * VECTOR):
        channel = start + lane
        inside = known & (channel < channels)
        at = x + row * x_row + channel * x_channel
        value = load_activations(at, (row < rows) & (channel < channels))
        channel = channel.to(tl.int64)
        factor = load_weights(up + neuron * up_neuron + channel * up_channel, inside)
        up_total += tl.sum(value * factor, axis=3, keep_dims=True)
        if gate is not None:
            factor = load_weights(gate + neuron * gate_neuron + channel * gate_channel, inside)
            gate_total += tl.sum(value * factor, axis=3, keep_dims=True)
    h = tl.sum(up_total, axis=2, keep_dims=True)
    if gate is not None:
        h *= activate(tl.sum(gate_total, axis=2, keep_dims=True), ACTIVATION)
    else:
        h = activate(h, ACTIVATION)
    tl.store(hidden + row * count + place, h, mask=(row < rows) & known)
