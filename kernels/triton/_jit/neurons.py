"""Sums over the channels of neurons, whose weights are beside each other.

Tiles are [ROWS, NEURONS, LANES, VECTOR]: a thread takes VECTOR channels that are next to each
other, of each neuron in turn.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pytest_sparsity.kernels.triton._jit.loads import load_activations, load_weights


@triton.jit
def channels_of_lanes(LANES: tl.constexpr, VECTOR: tl.constexpr):
    lane = tl.arange(0, LANES)[None, None, :, None] * VECTOR
    return lane + tl.arange(0, VECTOR)[None, None, None, :]


@triton.jit
def neuron_sums(
    x_rows, inside, x_channel, weight_rows, needed, weight_channel, channels,
    ROWS: tl.constexpr, NEURONS: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Activations times the weights of needed neurons, summed: [ROWS, NEURONS, 1, 1].

    x_rows and weight_rows point to the first channel of rows and neurons; ``inside`` are the rows
    that there are.
    """
    lane = channels_of_lanes(LANES, VECTOR)
    total = tl.zeros([ROWS, NEURONS, LANES, 1], tl.float32)
    for start in range(0, channels, LANES * VECTOR):
        channel = start + lane
        value = load_activations(x_rows + channel * x_channel, inside & (channel < channels))
        weight = weight_rows + channel.to(tl.int64) * weight_channel
        factor = load_weights(weight, needed & (channel < channels))
        total += tl.sum(value * factor, axis=3, keep_dims=True)
    return tl.sum(total, axis=2, keep_dims=True)
