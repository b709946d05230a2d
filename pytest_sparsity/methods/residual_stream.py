"""The residual stream that an MLP's norm reads, and how what the MLP gives comes back to it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states

#: In place of a kind of site: the residual stream before the norm of a layer's MLP.
RESIDUAL = "residual"


@dataclass(frozen=True)
class _Around:
    """What stands around the MLPs, by layer."""

    before: dict[int, nn.Module] = field(default_factory=dict)
    behind: dict[int, nn.Module] = field(default_factory=dict)


_TRACED: WeakKeyDictionary[nn.Module, _Around] = WeakKeyDictionary()


def residual_of(layer: int) -> str:
    """The name under which the residual stream before a layer's MLP is observed."""
    return f"{layer}.{RESIDUAL}"


def mlp_norms(model: LanguageModel) -> dict[int, nn.Module]:
    """Layer to the norm whose output its MLP reads; the norm's input is the residual stream.

    They are found by what is computed and not by their names, which differ: one forward pass
    of two tokens shows whose output is the very tensor that ``up`` reads.  In blocks in which
    attention and MLP stand side by side (Falcon, GPT-NeoX) that is the block's own input.

    Raises:
        SparsityError: what ``up`` reads in some layer is no norm's output.
    """
    return _around(model).before


def norms_behind(model: LanguageModel) -> dict[int, nn.Module]:
    """Layer to the norm that reads what its MLP gives, before the stream does (Gemma 2 and 3).

    Layers whose MLP adds to the stream as it is are not in it, as in most models.

    Raises:
        SparsityError: see :func:`mlp_norms`.
    """
    return _around(model).behind


def _around(model: LanguageModel) -> _Around:
    decoder = model.decoder
    if decoder not in _TRACED:
        _TRACED[decoder] = _trace(model)
    return _TRACED[decoder]


def _trace(model: LanguageModel) -> _Around:
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}
    given: dict[int, tuple[int, torch.Tensor]] = {}
    found = _Around()

    def after(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        # The tensor is held as well, or another one could be given its number.
        if args and isinstance(output, torch.Tensor) and output is not args[0]:
            made[id(output)] = module, output
        if args and id(args[0]) in given and not isinstance(module, nn.Dropout):
            found.behind[given[id(args[0])][0]] = module

    def before_up(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if id(args[0]) in made:
                found.before[layer] = made[id(args[0])][0]

        return hook

    def after_down(layer: int) -> Any:
        def hook(module: nn.Module, args: object, output: torch.Tensor) -> None:
            given[id(output)] = layer, output

        return hook

    ups = [s for s in model.sites if s.name in (f"{s.layer}.up", f"{s.layer}.gate_up")]
    with ExitStack() as hooks:
        for module in model.decoder.modules():
            if not isinstance(module, nn.Linear) and not any(module.children()):
                hooks.enter_context(module.register_forward_hook(after))
        for site in ups:
            hooks.enter_context(site.module.register_forward_pre_hook(before_up(site.layer)))
        for site in model.sites:
            if site.kind == "down":
                hooks.enter_context(site.module.register_forward_hook(after_down(site.layer)))
        hidden_states(model, torch.zeros(2, dtype=torch.int64))
    missing = [site.layer for site in ups if site.layer not in found.before]
    if missing or not ups:
        raise SparsityError(
            f"the MLPs of {model.name} do not read what a norm gives (layers {missing[:3] or 'all'}"
            "), so there is no residual stream before it to decide by; leave the methods that "
            "read it (powerinfer, deja_vu) out of --sparsity-methods for this model"
        )
    return found
