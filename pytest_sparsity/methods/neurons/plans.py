"""Plans that skip neurons of feed-forward blocks, whatever chooses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.activity import TAIL, down_sites
from pytest_sparsity.methods.neurons.predictor import Predictor
from pytest_sparsity.methods.neurons.selectors import FixedNeurons, PredictedNeurons
from pytest_sparsity.methods.neurons.training import BLOCK
from pytest_sparsity.methods.plan import NeuronSelector, Plan
from pytest_sparsity.methods.topk_mask import dropped_count
from pytest_sparsity.models import LanguageModel, Site

#: What the parameters of methods say an active neuron is, and how counts are rounded.
ACTIVE = f"h != 0 after ReLU, else the largest with {1 - TAIL:g} of a token's energy"
COUNT = "nearest, per layer and token"


def skipped_kinds(model: LanguageModel, down: Site) -> tuple[str, ...]:
    """The kinds of sites of whose weights a dropped neuron saves its row or column."""
    have = {site.kind for site in model.sites if site.layer == down.layer}
    return tuple(kind for kind in BLOCK if kind in have)


class SkipsNeurons:
    """What a method of neurons asks of a model."""

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that a model has neurons to skip.

        Raises:
            SparsityError: it has none.
        """
        down_sites(model)


def neuron_plan(
    method: str,
    calibrator: Calibrator,
    level: float,
    select: Callable[[Site, tuple[str, ...]], NeuronSelector],
    shares: Mapping[int, float] | None = None,
    cost: Mapping[str, float] | None = None,
) -> Plan:
    """A plan that drops neurons, the nearest number to ``level`` of each layer's at every token.

    Args:
        method: name of the method.
        calibrator: of the model.
        level: share of neurons asked for.
        select: makes the selector of a ``down`` site; it is also given :func:`skipped_kinds`.
        shares: by layer, the share that is dropped on average, where it is not the same number at
            every token.
        cost: what making the plan took.

    Raises:
        SparsityError: the level is not in [0, 1].
    """
    if not 0 <= level <= 1:
        raise SparsityError(f"{method}: the level must be in [0, 1], not {level!r}")
    model, downs = calibrator.model, down_sites(calibrator.model)
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
        neurons={name: select(site, skipped_kinds(model, site)) for name, site in downs.items()},
        targets=targets,
        exact=shares is None,
        cost=dict(cost or {}),
    )


def highest_scores_plan(
    method: str, calibrator: Calibrator, level: float, found: Predictor
) -> Plan:
    """A plan in which every token keeps the best-scoring ``1 - level`` of each layer's neurons.

    Args:
        method: name of the method.
        calibrator: of the model.
        level: share of neurons that every token drops in every layer.
        found: the predictors that score.
    """
    device = calibrator.model.device

    def select(site: Site, skips: tuple[str, ...]) -> PredictedNeurons:
        own = found.layers[site.layer].to(device)
        dropped = dropped_count(level, len(own.second))
        return PredictedNeurons(dropped, predictor=own, skips=skips, reads=found.reads)

    return neuron_plan(method, calibrator, level, select, cost=found.cost)


def fixed_plan(
    method: str, calibrator: Calibrator, level: float, masks: Mapping[int, torch.Tensor]
) -> Plan:
    """A plan in which every token keeps the neurons marked in ``masks``, by layer."""
    device = calibrator.model.device
    shares = {layer: 1 - int(mask.sum()) / len(mask) for layer, mask in masks.items()}

    def select(site: Site, skips: tuple[str, ...]) -> FixedNeurons:
        return FixedNeurons(masks[site.layer].to(device), skips)

    return replace(neuron_plan(method, calibrator, level, select, shares), exact=True)
