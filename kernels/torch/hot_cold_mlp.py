"""``hot_cold_mlp`` with torch operators: dense over hot neurons, gathered over cold ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.activation import activate
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs


@sparse_kernel(op="hot_cold_mlp", intermediate="operand", **COMPOSED)
def hot_cold_mlp(
    x: Tensor, up: Tensor, down: Tensor, hot: int, cold: Tensor,
    activation: str = "relu", gate: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The MLP over neurons 0 to hot - 1 and those in ``cold``: [rows, N], in x's dtype.

    Raises:
        ValueError, TypeError: the operands are not what ``HotColdMlpInputs`` asks for.
    """
    HotColdMlpInputs(x, up, down, hot, cold, activation, gate)
    hot_gate = None if gate is None else gate[:hot]
    cold_gate = None if gate is None else gate.index_select(0, cold)
    return _mlp(x, up[:hot], down[:, :hot], hot_gate, activation) + _mlp(
        x, up.index_select(0, cold), down.index_select(1, cold), cold_gate, activation
    )


def _mlp(x: Tensor, up: Tensor, down: Tensor, gate: Tensor | None, activation: str) -> Tensor:
    h = functional.linear(x, up)
    if gate is None:
        h = activate(activation, h)
    else:
        h = activate(activation, functional.linear(x, gate)) * h
    return functional.linear(h, down)
