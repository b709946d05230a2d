"""Gated MLPs, down(act(gate x) * up x): which function of a layer is act."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.forward import hidden_states, trial_tokens

#: In place of a kind of site: the values act(W_gate x) of a layer's neurons.
ACTIVATED = "act"

Activation = Callable[[torch.Tensor], torch.Tensor]

#: What an MLP that does not name its function is tried for.
_TRIED: tuple[Activation, ...] = (
    nn.functional.silu,
    nn.functional.gelu,
    nn.GELU(approximate="tanh"),
    nn.functional.relu,
)
#: By the MLP, where it does not name its function.
_FOUND: WeakKeyDictionary[nn.Module, Activation] = WeakKeyDictionary()


def activated_gate(layer: int) -> str:
    """The name under which act(W_gate x) of a layer is observed."""
    return f"{layer}.{ACTIVATED}"


def activation_of(model: LanguageModel, gate: Site) -> Activation:
    """The function that the MLP of ``gate`` applies to what its gate gives.

    It is what the MLP names ``act_fn``, as Llama, Qwen, Gemma and Mistral do, or the one that
    gives what a few tokens show.

    Raises:
        SparsityError: none does.
    """
    names = {id(module): name for name, module in model.model.named_modules()}
    mlp = model.model.get_submodule(names[id(gate.module)].rpartition(".")[0])
    found: Any = getattr(mlp, "act_fn", None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if mlp not in _FOUND:
        seen = _observe(model, [gate.layer])[gate.layer]
        known = [act for act in _TRIED if _gives(act, *seen)]
        if not known:
            raise _unknown(model, gate.layer)
        _FOUND[mlp] = known[0]
    return _FOUND[mlp]


def check_gates(model: LanguageModel, layers: Iterable[int]) -> None:
    """See that the MLPs of ``layers`` compute down(act(gate x) * up x), on a few tokens.

    Raises:
        SparsityError: one computes something else, so that act(gate x) does not tell which of its
            neurons are nearly 0.
    """
    gates = {site.layer: site for site in model.sites if site.name == f"{site.layer}.gate"}
    for layer, seen in _observe(model, layers).items():
        if not _gives(activation_of(model, gates[layer]), *seen):
            raise _unknown(model, layer)


def _unknown(model: LanguageModel, layer: int) -> SparsityError:
    return SparsityError(
        f"the MLP of layer {layer} of {model.name} multiplies by something else than an activation "
        "function of its gate alone, so that its gate does not tell which neurons are nearly 0; "
        "leave cats out of --sparsity-methods for this model"
    )


def _observe(
    model: LanguageModel, layers: Iterable[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """By layer, what its gate and its up projection give and what its down projection reads."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen[name] = args[0] if name.endswith(".down") else output

        return hook

    wanted = {n: [f"{n}.{kind}" for kind in ("gate", "up", "down")] for n in layers}
    every = {name for names in wanted.values() for name in names}
    with ExitStack() as hooks:
        for site in model.sites:
            if site.name in every:
                hooks.enter_context(site.module.register_forward_hook(keep(site.name)))
        hidden_states(model, trial_tokens(model))
    return {n: (seen[gate], seen[up], seen[down]) for n, (gate, up, down) in wanted.items()}


def _gives(act: Activation, gate: torch.Tensor, up: torch.Tensor, neurons: torch.Tensor) -> bool:
    """Whether neurons are act(gate) * up; some MLPs have act(gate) * act(up) (Bamboo)."""
    off = 16 * torch.finfo(neurons.dtype).eps
    scale = float(neurons.abs().max())
    return any(
        torch.allclose(act(gate) * other, neurons, rtol=off, atol=off * scale)
        for other in (up, act(up))
    )
