"""The op ``hot_cold_mlp``: an MLP over its hot neurons and the predicted cold ones.

    h = act(gate x) * (up x), or act(up x) without a gate
    y = down[:, hot] h[hot] + down[:, cold] h[cold]

After PowerInfer (arXiv 2312.12456, section 5): hot neurons are sorted to the front, cold ones
computed if they are predicted to be active, and the two merged by addition. Hot ones are always
computed here, as dense blocks; PowerInfer predicts them, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import hidden, operands
from pytest_sparsity.reference.activation import activate, check_activation
from pytest_sparsity.reference.precision import Precision, output_bound
from pytest_sparsity.reference.products import gathered


@dataclass(frozen=True, eq=False)
class HotColdMlpInputs:
    """Operands of ``hot_cold_mlp``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        up: [I, K], x's dtype, any strides.
        down: [N, I], x's dtype, any strides.
        hot: how many neurons, from the first, are always computed: 0 to I.
        cold: int32 [count], the other neurons to compute, the same for all rows: ascending, each
            once, from hot to I - 1; may be empty.
        activation: one of ``activation.ACTIVATIONS``.
        gate: [I, K], x's dtype, any strides, or None.
    """

    x: Tensor
    up: Tensor
    down: Tensor
    hot: int
    cold: Tensor
    activation: str = "relu"
    gate: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_weight("up", self.up, self.x)
        neurons = self.up.shape[0]
        operands.check_tensor("down", self.down, 2, (self.x.dtype,))
        operands.check_like("down", self.down, self.x, (self.down.shape[0], neurons))
        if not 0 <= self.hot <= neurons:
            raise ValueError(f"hot must be from 0 to {neurons}, the rows of up, not {self.hot}")
        operands.check_indices("cold", self.cold, self.x, self.hot, neurons)
        check_activation(self.activation)
        if self.gate is not None:
            operands.check_like("gate", self.gate, self.x, tuple(self.up.shape))


def hot_cold_mlp(inputs: HotColdMlpInputs) -> Tensor:
    """The op in float64: [rows, N].  Weights of other neurons do not matter."""
    x = inputs.x.double()
    h = x @ inputs.up.double().T
    if inputs.gate is None:
        h = activate(inputs.activation, h)
    else:
        h = activate(inputs.activation, x @ inputs.gate.double().T) * h
    return gathered(h, inputs.down, _computed(inputs).expand(h.shape))


def error_bound(inputs: HotColdMlpInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from :func:`hot_cold_mlp`: float64 [rows, N].

    2 u_out |ref|, the errors of the hidden values carried through down
    (``hidden.down_error``), and the rounding of what the hot and the cold neurons give to the
    intermediate dtype.
    """
    h = hidden.dense(inputs.x, inputs.up, precision.of("up"))
    if inputs.gate is None:
        h = hidden.activated(inputs.activation, h, precision)
    else:
        gate = hidden.dense(inputs.x, inputs.gate, precision.of("gate"))
        h = hidden.times(hidden.activated(inputs.activation, gate, precision), h, precision)
    computed = _computed(inputs).expand(h.value.shape)
    hot = torch.arange(computed.shape[1], device=computed.device) < inputs.hot
    parts = [gathered(h.value, inputs.down, computed & some) for some in (hot, ~hot)]
    error = hidden.down_error(h, inputs.down, computed, precision.of("down"))
    for part in parts:
        error = error + output_bound(part, precision.intermediate) / 2
    return hidden.result_bound(parts[0] + parts[1], error, precision)


def needed(inputs: HotColdMlpInputs) -> Mapping[str, Tensor]:
    """Which weights a kernel reads: those of the hot neurons and of the listed cold ones."""
    computed = _computed(inputs)
    rows = computed[:, None].expand(inputs.up.shape)
    masks = {"up": rows, "down": computed.expand(inputs.down.shape)}
    return masks if inputs.gate is None else masks | {"gate": rows}


def _computed(inputs: HotColdMlpInputs) -> Tensor:
    """Which neurons are computed: bool [I]."""
    computed = torch.arange(inputs.up.shape[0], device=inputs.x.device) < inputs.hot
    computed[inputs.cold.long()] = True
    return computed
