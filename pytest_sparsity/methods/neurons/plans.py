"""Plans that skip neurons of feed-forward blocks, whatever chooses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.exact import dropped_count
from pytest_sparsity.methods.neurons.activity import TAIL, down_sites
from pytest_sparsity.methods.neurons.selectors import FixedNeurons
from pytest_sparsity.methods.neurons.training import BLOCK
from pytest_sparsity.methods.plan import NeuronSelector, Plan
from pytest_sparsity.models import LanguageModel, Site

#: What the parameters of methods say an active neuron is, and how counts are rounded.
ACTIVE = f"h != 0 after ReLU, else the largest with {1 - TAIL:g} of a token's energy"
COUNT = "nearest, per layer and token"


def skipped_kinds(model: LanguageModel, down: Site) -> tuple[str, ...]:
    """The kinds of sites of whose weights a dropped neuron saves its row or column."""
    have = {site.kind for site in model.sites if site.layer == down.layer}
    return tuple(kind for kind in BLOCK if kind in have)


def neuron_plan(
    method: str,
    calibrator: Calibrator,
    level: float,
    neurons: Mapping[str, NeuronSelector],
    shares: Mapping[int, float] | None = None,
    cost: Mapping[str, float] | None = None,
) -> Plan:
    """A plan that drops neurons, the nearest number to ``level`` of each layer's at every token.

    Args:
        method: name of the method.
        calibrator: of the model.
        level: share of neurons asked for.
        neurons: name of a ``down`` site to its selector.
        shares: by layer, the share that is dropped on average, where it is not the same number at
            every token.
        cost: what making the plan took.

    Raises:
        SparsityError: the level is not in [0, 1].
    """
    if not 0 <= level <= 1:
        raise SparsityError(f"{method}: the level must be in [0, 1], not {level!r}")
    downs = down_sites(calibrator.model)
    if shares is None:
        widths = {name: site.module.in_features for name, site in downs.items()}
        targets = {name: dropped_count(level, width) / width for name, width in widths.items()}
    else:
        targets = {name: shares[site.layer] for name, site in downs.items()}
    return Plan(
        method=method,
        level=level,
        selectors={},
        prefill=calibrator.prefill,
        neurons=neurons,
        targets=targets,
        exact=shares is None,
        cost=dict(cost or {}),
    )


def fixed_plan(
    method: str, calibrator: Calibrator, level: float, masks: Mapping[int, torch.Tensor]
) -> Plan:
    """A plan in which every token keeps the neurons marked in ``masks``, by layer."""
    model = calibrator.model
    neurons = {
        name: FixedNeurons(masks[site.layer].to(model.device), skipped_kinds(model, site))
        for name, site in down_sites(model).items()
    }
    shares = {layer: 1 - int(mask.sum()) / len(mask) for layer, mask in masks.items()}
    plan = neuron_plan(method, calibrator, level, neurons)
    targets = {name: shares[site.layer] for name, site in down_sites(model).items()}
    return replace(plan, targets=targets)
