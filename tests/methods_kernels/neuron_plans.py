"""Plans by neurons of small models, and what kernels are called for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from steps import assert_unchanged, decode
from torch import Tensor, nn

from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.neurons.predictor import LayerPredictor
from pytest_sparsity.methods.neurons.selectors import FixedNeurons, PredictedNeurons
from pytest_sparsity.methods.plan import INPUT, Plan
from pytest_sparsity.methods.prefill import PrefillPolicy

LAYERS = 3
KINDS = ("gate", "up", "down")


class Calls(list[tuple[int, int]]):
    """(rows, neurons kept) of every call of the kernel under test, but for those at attaching."""


def downs(model: Any) -> list[Any]:
    return [site for site in model.sites if site.kind == "down"]


def predicted(site: Any, reads: str = INPUT, share: float = 0.5) -> PredictedNeurons:
    """Selects by a random predictor."""
    width, neurons = site.module.out_features, site.module.in_features
    lot = torch.Generator().manual_seed(site.layer)
    first, second = (torch.randn(*s, generator=lot) for s in ((8, width), (neurons, 8)))
    dropped = round(share * neurons)
    own = LayerPredictor(first, second)
    return PredictedNeurons(dropped, predictor=own, skips=KINDS, reads=reads)


def plan_of(
    model: Any,
    select: Callable[[Any], Any] = predicted,
    policy: str = "first:1",
    **given: Any,
) -> Plan:
    neurons = {site.name: select(site) for site in downs(model)}
    if "gate" not in {site.kind for site in model.sites}:
        neurons = {down: replace(own, skips=KINDS[1:]) for down, own in neurons.items()}
    return Plan("by neurons", 0.5, {}, PrefillPolicy(policy), neurons=neurons, **given)


def fixed(site: Any) -> FixedNeurons:
    lot = torch.Generator().manual_seed(site.layer)
    return FixedNeurons(torch.rand(site.module.in_features, generator=lot) < 0.5, KINDS)


def constant(model: Any, kind: str = "down") -> dict[str, Tensor]:
    """A folded bias at every site of a kind."""
    lot = torch.Generator().manual_seed(5)
    return {
        site.name: 0.1 * torch.randn(site.module.out_features, generator=lot)
        for site in model.sites
        if site.kind == kind
    }


def block_of(model: Any, layer: int) -> nn.Module:
    found: nn.Module = model.block_of(
        [site for site in model.sites if site.layer == layer and site.kind in KINDS]
    )
    return found


def assert_masked(model: Any, plan: Plan, calls: Calls) -> None:
    """No kernel is used for the plan, and the numbers are those of masked layers."""
    with sparsify(model, plan):
        masked = decode(model)
    with sparsify(model, plan, kernels="watched") as attached:
        assert not attached.kernels
        assert_unchanged(decode(model), masked)
    assert not calls
