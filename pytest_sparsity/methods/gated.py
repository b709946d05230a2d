"""Gated MLPs, down(act(gate x) * up x): which function of a layer is act."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel, Site

#: In place of a kind of site: the values act(W_gate x) of a layer's neurons.
ACTIVATED = "act"


def activated_gate(layer: int) -> str:
    """The name under which act(W_gate x) of a layer is observed."""
    return f"{layer}.{ACTIVATED}"


def activation_of(model: LanguageModel, gate: Site) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that the MLP of ``gate`` applies to what its gate gives.

    Raises:
        SparsityError: the MLP does not name it as Llama, Qwen, Gemma and Mistral do.
    """
    names = {id(module): name for name, module in model.model.named_modules()}
    owner = names[id(gate.module)].rpartition(".")[0]
    mlp = model.model.get_submodule(owner)
    found = getattr(mlp, "act_fn", None)
    if not callable(found):
        raise SparsityError(
            f"the activation function of {model.name} is not known: {owner} ({type(mlp).__name__}) "
            "has no act_fn; name it in pytest_sparsity/methods/gated.py"
        )
    act: Callable[[torch.Tensor], torch.Tensor] = found
    return act
