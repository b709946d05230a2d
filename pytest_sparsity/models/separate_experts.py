"""Experts that are modules of their own: which they are, and whose forward sends tokens to them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from pytest_sparsity.models.experts import Stack
from pytest_sparsity.models.grouped_experts import GroupedExperts
from pytest_sparsity.models.routing import follow_rows, is_routed, route

#: In the path of experts that all tokens go to.
SHARED = re.compile(r"shared_?(expert|mlp)", re.IGNORECASE)


def follow_experts(model: nn.Module) -> None:
    """Have it known which tokens come to each expert of a list or of a group, in place."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if not _sends_rows(path, module):
            continue
        if (router := _router_of(path, len(list(module.children())), modules)) is None:
            continue  # which finding refuses
        follow_rows(router)
        for expert in module if isinstance(module, nn.ModuleList) else (module,):
            route(expert)


def layers_of_experts(model: nn.Module) -> Iterator[nn.Module]:
    """Every layer of which it is known which tokens come to it."""
    for module in model.modules():
        if isinstance(module, Stack):
            yield from module.children()
        elif is_routed(module):
            yield from module.modules()


def _sends_rows(path: str, module: nn.Module) -> bool:
    if isinstance(module, GroupedExperts):
        return True
    named = "expert" in path.rpartition(".")[2].lower() and not SHARED.search(path)
    return isinstance(module, nn.ModuleList) and named and any(True for _ in module.parameters())


def _router_of(path: str, experts: int, modules: dict[str, nn.Module]) -> nn.Module | None:
    """The innermost module around experts that has a matrix with a row for each of them.

    It decides who gets which token, and so reads all tokens in their order.
    """
    inside = path
    while inside:
        outside = inside.rpartition(".")[0]
        for name, parameter in modules[outside].named_parameters():
            within = f"{outside}.{name}".removeprefix(".").startswith(f"{inside}.")
            if not within and parameter.ndim == 2 and len(parameter) == experts:
                # JetMoE's attention calls two other methods of its experts, and not the forward.
                apart = hasattr(modules[outside], "map") and hasattr(modules[outside], "reduce")
                return modules[outside.rpartition(".")[0] if apart else outside]
        inside = outside
    return None
