"""The op ``sparse_swiglu``: a gated MLP that leaves out neurons whose gate is next to nothing.

    a = act(gate x),    h_i = a_i (up x)_i if |a_i| > t, else 0,    y = down h

CATS (arXiv 2404.08763, section 3): the gate is dense, and only the rows of up and the columns of
down of active neurons are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import hidden, operands
from pytest_sparsity.reference.activation import activate, check_activation
from pytest_sparsity.reference.decisions import above
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.products import gathered


@dataclass(frozen=True, eq=False)
class SparseSwigluInputs:
    """Operands of ``sparse_swiglu``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        gate: [I, K], x's dtype, any strides.
        up: [I, K], x's dtype, any strides.
        down: [N, I], x's dtype, any strides.
        threshold: t, finite and at least 0.  It is not rounded to x's dtype: kernels compare in
            the dtype in which they hold a.
        activation: one of ``activation.ACTIVATIONS``.
    """

    x: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    threshold: float
    activation: str = "silu"

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_weight("gate", self.gate, self.x)
        neurons = self.gate.shape[0]
        operands.check_like("up", self.up, self.x, (neurons, self.x.shape[1]))
        operands.check_tensor("down", self.down, 2, (self.x.dtype,))
        operands.check_like("down", self.down, self.x, (self.down.shape[0], neurons))
        operands.check_threshold("threshold", self.threshold, self.x.dtype)
        check_activation(self.activation)


def sparse_swiglu(inputs: SparseSwigluInputs) -> Tensor:
    """The op in float64: [rows, N].  Up and down of a row's inactive neurons do not matter."""
    x = inputs.x.double()
    a = activate(inputs.activation, x @ inputs.gate.double().T)
    return gathered(a * (x @ inputs.up.double().T), inputs.down, _active(a, inputs.threshold))


def error_bound(inputs: SparseSwigluInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from :func:`sparse_swiglu`: float64 [rows, N].

    2 u_out |ref|, the errors of the hidden values carried through down
    (``hidden.down_error``), and all of |down_i h_i| for neurons that a kernel may take for active
    or for inactive, since it knows a_i only so well.
    """
    a = _gate(inputs, precision)
    h = hidden.times(a, hidden.dense(inputs.x, inputs.up, precision.of("up")), precision)
    keep = _active(a.value, inputs.threshold)
    unsure = _unsure(a, inputs.threshold, precision)
    # Up of a neuron that no right kernel takes for active may hold NaN.
    either_way = (h.value.abs() + h.error).nan_to_num(nan=0.0)
    error = hidden.down_error(h, inputs.down, keep, precision.of("down")) + gathered(
        either_way, inputs.down.abs().nan_to_num(nan=0.0), unsure
    )
    return hidden.result_bound(sparse_swiglu(inputs), error, precision)


def needed(inputs: SparseSwigluInputs) -> Mapping[str, Tensor]:
    """Which weights a sparse kernel may read.

    All of gate; of up and down the neurons that are active in some row, and those whose |a| is
    so near the threshold that they may be for a kernel that sums in float32 and compares in x's
    dtype.
    """
    dtype = inputs.x.dtype
    precision = Precision(dtype, torch.float32, dtype)
    a = _gate(inputs, precision)
    threshold = inputs.threshold
    neurons = (_active(a.value, threshold) | _unsure(a, threshold, precision)).any(0)
    return {
        "gate": torch.ones_like(inputs.gate, dtype=torch.bool),
        "up": neurons[:, None].expand(inputs.up.shape),
        "down": neurons.expand(inputs.down.shape),
    }


def _gate(inputs: SparseSwigluInputs, precision: Precision) -> hidden.Stage:
    product = hidden.dense(inputs.x, inputs.gate, precision.of("gate"))
    return hidden.activated(inputs.activation, product, precision)


def _active(a: Tensor, threshold: float) -> Tensor:
    """Which neurons take part: bool [rows, I]; NaN does."""
    return above(a.abs(), threshold)


def _unsure(a: hidden.Stage, threshold: float, precision: Precision) -> Tensor:
    """Which neurons a kernel may take for active as well as for inactive: bool [rows, I]."""
    # A kernel rounds the threshold to the dtype in which it holds a.
    rounding = threshold * torch.finfo(precision.intermediate).eps / 2
    return (a.value.abs() - threshold).abs() < a.error + rounding
