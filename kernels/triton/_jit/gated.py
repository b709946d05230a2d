"""Hidden values of gated neurons whose activated gate exceeds a threshold."""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.activation import activate
from pytest_sparsity.kernels.triton._jit.neurons import neuron_sums


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
    x_row, x_channel, gate_neuron, gate_channel, up_neuron, up_channel,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr, NEURONS: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, ROWS)[:, None, None, None]
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)[None, :, None, None]
    gate_rows = gate + neuron.to(tl.int64) * gate_neuron
    up_rows = up + neuron.to(tl.int64) * up_neuron
    x_rows = x + row * x_row
    gates = neuron_sums(
        x_rows, row < rows, x_channel, gate_rows, neuron < neurons, gate_channel, channels,
        ROWS, NEURONS, LANES, VECTOR,
    )  # fmt: skip
    a = activate(gates, ACTIVATION)
    inside = (row < rows) & (neuron < neurons)
    keep = ~(tl.abs(a) <= threshold) & inside
    needed = tl.max(keep.to(tl.int32), axis=0, keep_dims=True) > 0
    ups = neuron_sums(
        x_rows, row < rows, x_channel, up_rows, needed, up_channel, channels,
        ROWS, NEURONS, LANES, VECTOR,
    )  # fmt: skip
    at = row * neurons + neuron
    h = tl.where(keep, a * ups, 0.0)
    tl.store(activated + at, a, mask=inside)
    tl.store(hidden + at, h, mask=inside)
