"""Experts that are modules of their own: which they are, and whose forward sends tokens to them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.experts import Stack
from pytest_sparsity.models.grouped_experts import GroupedExperts
from pytest_sparsity.models.language_model import Site
from pytest_sparsity.models.routing import follow_rows, is_routed, route

#: In the path of experts that all tokens go to.
SHARED = re.compile(r"shared_?(expert|mlp)", re.IGNORECASE)


def follow_experts(model: nn.Module) -> None:
    """Have it known which tokens come to each expert of a list or of a group, in place."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if not isinstance(module, nn.ModuleList) or not _are_experts(path, module):
            continue
        if (router := _router_of(path, len(module), modules)) is None:
            continue  # which finding refuses
        follow_rows(router)
        group = modules[path.rpartition(".")[0]]
        for each in (group,) if isinstance(group, GroupedExperts) else module:
            route(each)


def check_routed(model: nn.Module, sites: Sequence[Site]) -> None:
    """See that of each expert it is known which tokens come to it.

    Raises:
        SparsityError: of one it is not.
    """
    known: set[int] = set()
    for module in model.modules():
        if isinstance(module, Stack):
            known |= {id(layer) for layer in module.children()}
        elif is_routed(module):
            known |= {id(layer) for layer in module.modules()}
    if other := [site.name for site in sites if site.routed and id(site.module) not in known]:
        raise SparsityError(
            f"{type(model).__name__} cannot be sparsified: which tokens come to {other[0]} is not "
            "known, because its experts are neither stacked as in transformers 5 nor a list of "
            "modules beside a router with a row for each; use another model"
        )


def _are_experts(path: str, members: nn.ModuleList) -> bool:
    named = "expert" in path.rpartition(".")[2].lower() and not SHARED.search(path)
    return named and any(True for _ in members.parameters())


def _router_of(path: str, experts: int, modules: dict[str, nn.Module]) -> nn.Module | None:
    """The innermost module around experts that has a matrix with a row for each of them.

    It decides who gets which token, and so reads all tokens in their order.
    """
    inside = path
    while inside:
        outside = inside.rpartition(".")[0]
        for name, module in modules[outside].named_modules(prefix=outside):
            if not f"{name}.".startswith(f"{inside}.") and _has_rows(module, experts):
                # JetMoE's attention calls two other methods of its experts, and not the forward.
                apart = hasattr(modules[outside], "map") and hasattr(modules[outside], "reduce")
                return modules[outside.rpartition(".")[0] if apart else outside]
        inside = outside
    return None


def _has_rows(module: nn.Module, count: int) -> bool:
    """Whether a module itself has a matrix of so many rows, however its weight is stored."""
    own = module.parameters(recurse=False)
    matrix = any(each.ndim == 2 and len(each) == count for each in own)
    return matrix or getattr(module, "out_features", None) == count
