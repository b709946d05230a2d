"""Gated layers over some of their neurons, compiled; addresses and steps as in ``_linear``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pytest_sparsity.kernels.cpu._activations import (
    add_kept,
    compact,
    finish_rows,
    multiply_kept,
    read,
)
from pytest_sparsity.kernels.cpu._compiling import compiled
from pytest_sparsity.kernels.cpu._linear import integers

_HALF, _ONE = np.float32(0.5), np.float32(1)
_CUBIC = np.float32(0.044715)
_SCALE = np.float32(math.sqrt(2 / math.pi))


@compiled
def sparse_swiglu(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    gate: int, gate_step: int, gate_channel_step: int, up: int, up_step: int, up_channel_step: int,
    neurons: int, down: int, output_step: int, neuron_step: int, outputs: int,
    threshold: float, activation: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """All gates, then up and down of the neurons whose |act(gate x)| is above the threshold."""
    values = read(x, x_pitch, x_step, rows, channels, sample)
    h = np.empty(rows * neurons, np.float32)
    keep = np.ones(rows * neurons, np.bool_)
    listed = np.arange(neurons).astype(np.int32)
    multiply_kept(
        h, neurons, values, keep, rows, channels, listed, neurons,
        gate, gate_step, gate_channel_step, sample,
    )  # fmt: skip
    for i in range(rows * neurons):
        h[i] = activate(h[i], activation)
        keep[i] = not abs(np.float64(h[i])) <= threshold
    count = compact(keep, rows, neurons, listed)
    ups = np.empty(rows * neurons, np.float32)
    multiply_kept(
        ups, neurons, values, keep, rows, channels, listed, count,
        up, up_step, up_channel_step, sample,
    )  # fmt: skip
    for i in range(rows * neurons):
        if keep[i]:
            h[i] *= ups[i]
    _down(
        h, keep, rows, neurons, listed, count,
        down, output_step, neuron_step, outputs, out, out_pitch, sample,
    )  # fmt: skip


@compiled
def hot_cold_mlp(
    x: int, x_pitch: int, x_step: int, rows: int, channels: int,
    gate: int, gate_step: int, gate_channel_step: int, up: int, up_step: int, up_channel_step: int,
    neurons: int, down: int, output_step: int, neuron_step: int, outputs: int,
    hot: int, cold: int, cold_step: int, count: int,
    activation: int, out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    """The first ``hot`` neurons and the ``count`` int32 at ``cold``; ``gate`` is 0 for none."""
    values = read(x, x_pitch, x_step, rows, channels, sample)
    listed = np.empty(hot + count, np.int32)
    listed[:hot] = np.arange(hot)
    listed[hot:] = integers(cold, cold_step, count)
    h = np.empty(rows * neurons, np.float32)
    gates = np.empty(rows * neurons, np.float32)
    keep = np.ones(rows * neurons, np.bool_)
    multiply_kept(
        h, neurons, values, keep, rows, channels, listed, hot + count,
        up, up_step, up_channel_step, sample,
    )  # fmt: skip
    if gate:
        multiply_kept(
            gates, neurons, values, keep, rows, channels, listed, hot + count,
            gate, gate_step, gate_channel_step, sample,
        )  # fmt: skip
    for row in range(rows):
        for j in range(hot + count):
            i = row * neurons + listed[j]
            if gate:
                h[i] *= activate(gates[i], activation)
            else:
                h[i] = activate(h[i], activation)
    _down(
        h, keep, rows, neurons, listed, hot + count,
        down, output_step, neuron_step, outputs, out, out_pitch, sample,
    )  # fmt: skip


@compiled
def _down(
    h: Any, keep: Any, rows: int, neurons: int, listed: Any, count: int,
    down: int, output_step: int, neuron_step: int, outputs: int,
    out: int, out_pitch: int, sample: Any,
) -> None:  # fmt: skip
    y = np.zeros(rows * outputs, np.float32)
    add_kept(
        y, outputs, h, keep, rows, neurons, listed, count, down, output_step, neuron_step, sample
    )
    finish_rows(y, rows, outputs, out, out_pitch, sample)


@compiled
def activate(x: Any, activation: int) -> Any:
    """The activation of this number in ``reference.activation.ACTIVATIONS``; keeps NaN."""
    if activation == 0:  # silu
        return x / (_ONE + math.exp(-x))
    if activation == 1:  # gelu_tanh
        return _HALF * x * (_ONE + math.tanh(_SCALE * (x + _CUBIC * x * x * x)))
    positive = np.float32(0) if x <= 0 else x
    return positive if activation == 2 else positive * positive  # relu, relu2
