"""Matrices that a recurrent mixer multiplies from the left, W @ x, as linear layers.

Mamba's time step is ``dt_proj.weight @ x`` with x [..., K, T]: the layer's own forward is not
called, so no hook on it sees x.  Zamba has such matrices for each of its heads, in one parameter
[heads, N, K].  In their place stand modules whose product from the left is a call of a linear layer
with x^T, for each head; the layers share the memory of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Names of a mixer's parameters [heads, N, K].
_STACKED = ("x_proj_weight", "dt_proj_weight")


class _LeftFactor:
    """The left factor of a product: one matrix, or one for each of the first axis of x."""

    def __init__(self, layers: list[nn.Module], stacked: bool) -> None:
        self._layers, self._stacked = layers, stacked

    def __matmul__(self, x: Tensor) -> Tensor:
        if not self._stacked:
            return _from_left(self._layers[0], x)
        heads = zip(self._layers, x, strict=True)
        return torch.stack([_from_left(layer, own) for layer, own in heads])


def _from_left(layer: nn.Module, x: Tensor) -> Tensor:
    """W x [..., N, T] of x [..., K, T], by a layer that computes x W^T."""
    found: Tensor = layer(x.transpose(-1, -2)).transpose(-1, -2)
    return found


class LeftLinear(nn.Module):
    """In place of a linear layer whose owner multiplies by its weight from the left.

    Args:
        old: the layer, whose weight and bias it has.
    """

    def __init__(self, old: nn.Linear) -> None:
        super().__init__()
        self.linear = _linear(old.weight)
        bias: nn.Parameter | None = old.bias
        self.bias = bias

    @property
    def weight(self) -> _LeftFactor:
        """What the owner multiplies with."""
        return _LeftFactor([self.linear], stacked=False)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer itself would give."""
        y: Tensor = self.linear(x)
        return y if self.bias is None else y + self.bias


class LeftStack(nn.Module):
    """In place of a parameter [heads, N, K] that is the left factor of a product.

    Args:
        stacked: the parameter; x is [heads, ..., K, T].
    """

    def __init__(self, stacked: nn.Parameter) -> None:
        super().__init__()
        for head, matrix in enumerate(stacked.detach()):
            weight = nn.Parameter(matrix, stacked.requires_grad)
            self.add_module(str(head), _linear(weight))

    def __getitem__(self, place: Any) -> _LeftFactor:
        # Transformers 4 writes the axes of the matrices as well.
        alike = [(slice(None), None), (slice(None), None, slice(None), slice(None))]
        assert place in alike, "one matrix for each head, over all sequences"
        return _LeftFactor(list(self.children()), stacked=True)


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), weight.requires_grad)
    return layer


def use_left_layers(module: nn.Module) -> None:
    """Exchange what a Mamba mixer multiplies from the left, in place."""
    if "Mamba" not in type(module).__name__:
        return
    if isinstance(step := getattr(module, "dt_proj", None), nn.Linear):
        module.dt_proj = LeftLinear(step).train(step.training)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if name in _STACKED and parameter.ndim == 3:
            delattr(module, name)
            module.add_module(name, LeftStack(parameter))
