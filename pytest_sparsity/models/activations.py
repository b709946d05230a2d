"""Activations of published sparse models that transformers has no module for.

Their authors ship them as code on the hub, which is never run here; what they compute is a line
each.  The modules are put into one model, in place of those of its class: transformers' table of
activations is left alone, because other models of the same process read it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError


class FatReLU(nn.Module):
    """x where x > t, else 0 (ProSparse, arXiv 2402.13516); NaN stays NaN.

    Args:
        threshold: t.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of any shape and dtype; the result has both."""
        return nn.functional.threshold(x, self.threshold, 0.0)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"threshold={self.threshold:g}"


class DReLU(nn.Module):
    """down(relu(gate x) * relu(up x)) (Bamboo; arXiv 2406.05955), over another MLP's layers.

    Args:
        mlp: has ``gate_proj``, ``up_proj``, ``down_proj`` and ``act_fn``, which are taken over
            under the same names.
    """

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj: nn.Module = mlp.gate_proj
        self.up_proj: nn.Module = mlp.up_proj
        self.down_proj: nn.Module = mlp.down_proj
        self.act_fn: nn.Module = mlp.act_fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output [..., H] for x [..., H]."""
        out: torch.Tensor = self.down_proj(
            self.act_fn(self.gate_proj(x)) * self.act_fn(self.up_proj(x))
        )
        return out


def use_fatrelu(model: nn.Module, threshold: float) -> None:
    """Exchange the ReLU of every MLP of ``model``, in place, by a :class:`FatReLU`.

    Raises:
        SparsityError: it has none under transformers' usual name, ``act_fn``.
    """
    owners = [m for m in model.modules() if isinstance(getattr(m, "act_fn", None), nn.ReLU)]
    for owner in owners:
        owner.act_fn = FatReLU(threshold)
    if not owners:
        raise SparsityError(
            f"{type(model).__name__} has no activation that hidden_act 'fatrelu' could replace; "
            "pass a model of an architecture such as Llama or Mistral"
        )


def use_drelu(model: nn.Module) -> None:
    """Exchange every gated MLP of ``model``, in place, by a :class:`DReLU` over its layers.

    Raises:
        SparsityError: it has none.
    """
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    found = False
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if all(hasattr(child, part) for part in parts) and not isinstance(child, DReLU):
                setattr(parent, name, DReLU(child).train(child.training))
                found = True
    if not found:
        raise SparsityError(
            f"{type(model).__name__} has no gated MLP that could be Bamboo's; pass a model of an "
            "architecture such as Llama or Mistral"
        )
