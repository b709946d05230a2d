"""The activation functions of gated layers with torch operators."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def activate(name: str, x: Tensor) -> Tensor:
    """The activation called ``name`` in ``reference.activation.ACTIVATIONS``, in x's dtype."""
    if name == "silu":
        return functional.silu(x)
    if name == "gelu_tanh":
        return functional.gelu(x, approximate="tanh")
    positive = functional.relu(x)
    return positive if name == "relu" else positive.square()
