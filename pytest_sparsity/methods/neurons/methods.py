"""The four experiments on neurons, at matched numbers of kept ones, as methods.

PowerInfer prunes neither hot nor cold neurons: it skips, token by token, those that are
predicted to be inactive.  That is ``cold_skip``.  ``hot_only`` and ``cold_only`` prune, for good,
to the neurons that are active most and least often, and ``random_neurons`` is their control.
Every layer keeps the same number in all of them, at every token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.files import locked, sha256_text
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.exact import dropped_count
from pytest_sparsity.methods.neurons import activity, predictor, training
from pytest_sparsity.methods.neurons.activity import (
    NEURON_STATISTICS,
    TAIL,
    calibrated_counts,
    down_sites,
)
from pytest_sparsity.methods.neurons.hot_set import hot_mask
from pytest_sparsity.methods.neurons.predictor import Predictor
from pytest_sparsity.methods.neurons.selectors import (
    FixedNeurons,
    LargestNeurons,
    PredictedNeurons,
)
from pytest_sparsity.methods.neurons.training import BLOCK, PredictorRecipe, train_predictor
from pytest_sparsity.methods.plan import NeuronSelector, Plan
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel, Site

_ACTIVE = f"h != 0 after ReLU, else the largest with {1 - TAIL:g} of a token's energy"
#: The code that stored predictors depend on.
_PREDICTING = (activity.__file__, predictor.__file__, training.__file__)
_COUNT = "nearest, per layer and token"

#: Recalls at which errors of a predictor are injected besides 1, which is the oracle.
RECALLS = (0.99, 0.95, 0.9)


class HotOnly:
    """Every layer keeps its most often active neurons and loses the ``level`` coldest."""

    name = "hot_only"
    parameters: Mapping[str, object] = {"active": _ACTIVE, "count": _COUNT, "scope": "layer"}
    wants: tuple[str, ...] = NEURON_STATISTICS

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The most often active ``1 - level`` of every layer's neurons."""
        counts = calibrated_counts(calibrator).counts
        return fixed_plan(
            self.name,
            calibrator,
            level,
            {n: hot_mask(c, len(c) - dropped_count(level, len(c))) for n, c in counts.items()},
        )


class ColdOnly:
    """Every layer loses its most often active neurons: the hottest ``level`` of them."""

    name = "cold_only"
    parameters: Mapping[str, object] = HotOnly.parameters
    wants: tuple[str, ...] = HotOnly.wants

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The least often active ``1 - level`` of every layer's neurons."""
        counts = calibrated_counts(calibrator).counts
        return fixed_plan(
            self.name,
            calibrator,
            level,
            {n: ~hot_mask(c, dropped_count(level, len(c))) for n, c in counts.items()},
        )


class RandomNeurons:
    """Every layer keeps neurons drawn by lot: the control of hot_only and cold_only.

    What a level keeps, lower levels keep as well.

    Args:
        seed: of the lot.
    """

    name = "random_neurons"
    wants: tuple[str, ...] = ()

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.parameters: Mapping[str, object] = {"count": _COUNT, "seed": seed}

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """A seeded ``1 - level`` of every layer's neurons."""
        masks = {}
        for site in down_sites(calibrator.model).values():
            neurons = site.module.in_features
            lot = torch.Generator().manual_seed(self._seed * 100_003 + site.layer)
            order = torch.randperm(neurons, generator=lot)
            masks[site.layer] = torch.ones(neurons, dtype=torch.bool)
            masks[site.layer][order[: dropped_count(level, neurons)]] = False
        return fixed_plan(self.name, calibrator, level, masks)


class ColdSkipOracle:
    """Every token skips the neurons that add least to its output, as if it knew them.

    The bound that predictors work towards, and with ``recall`` below 1 the way from there: of
    the neurons that should be kept a share is missed, and as many others are kept instead.

    Args:
        recall: in (0, 1].
        seed: of what is missed.
    """

    wants: tuple[str, ...] = ()

    def __init__(self, recall: float = 1.0, seed: int = 0) -> None:
        if not 0 < recall <= 1:
            raise ValueError(f"the recall must be in (0, 1], not {recall!r}")
        self._recall, self._seed = recall, seed
        self.name = "cold_skip_oracle"
        self.parameters: Mapping[str, object] = {"count": _COUNT, "by": "|h_j| ||d_j||"}
        if recall < 1:
            self.name = f"cold_skip_recall_{100 * recall:g}"
            self.parameters = {**self.parameters, "recall": recall, "seed": seed}

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The largest ``1 - level`` of every layer's neurons, token by token."""
        return neuron_plan(
            self.name,
            calibrator,
            level,
            {
                site.name: LargestNeurons(
                    dropped_count(level, site.module.in_features),
                    column_norms(site),
                    skipped_kinds(calibrator.model, site),
                    self._recall,
                    self._seed,
                )
                for site in down_sites(calibrator.model).values()
            },
        )


class ColdSkip:
    """PowerInfer: every token skips the neurons that are predicted to be inactive.

    The predictors are trained on the calibration text once per model, kept in the cache, and
    serve all levels.  What they read themselves is not part of the achieved sparsity.

    Args:
        recipe: how the predictors are trained.
    """

    name = "cold_skip"
    wants: tuple[str, ...] = ()

    def __init__(self, recipe: PredictorRecipe | None = None) -> None:
        self._recipe = recipe or PredictorRecipe()
        self._made: WeakKeyDictionary[Calibrator, Predictor] = WeakKeyDictionary()
        self.parameters: Mapping[str, object] = {
            "active": _ACTIVE,
            "count": _COUNT,
            "predictor": asdict(self._recipe),
        }

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The ``1 - level`` of every layer's neurons with the highest scores, token by token.

        Raises:
            SparsityError: the predictors cannot be trained.
        """
        model, predictor = calibrator.model, self.predictor(calibrator)
        plan = neuron_plan(
            self.name,
            calibrator,
            level,
            {
                site.name: PredictedNeurons(
                    dropped_count(level, site.module.in_features),
                    predictor.layers[site.layer].to(model.device),
                    skipped_kinds(model, site),
                )
                for site in down_sites(model).values()
            },
            cost={name: float(predictor.provenance[name]) for name in ("tokens", "seconds")},
        )
        return plan

    def predictor(self, calibrator: Calibrator) -> Predictor:
        """The predictors of the calibrator's model: known, cached, or trained now.

        Raises:
            SparsityError: they cannot be trained, or a cached file is damaged.
        """
        found = self._made.get(calibrator)
        if found is None:
            found = self._made[calibrator] = self._cached(calibrator)
        return found

    def _cached(self, calibrator: Calibrator) -> Predictor:
        folder = calibrator.store.folder
        if folder is None:
            return self._train(calibrator)
        code = (Path(file).read_text(encoding="utf-8") for file in _PREDICTING)
        recipe = sha256_text(repr(self._recipe), str(TAIL), *code)[:8]
        path = folder / f"neuron-predictors-{recipe}.safetensors"
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                self._train(calibrator).save(path)
            # What is used is what is stored: float16, as the next run will read it.
            return Predictor.load(path)

    def _train(self, calibrator: Calibrator) -> Predictor:
        return train_predictor(
            calibrator.model,
            calibrator.tokens,
            calibrator.prefill,
            self._recipe,
            calibrator.progress,
        )


def skipped_kinds(model: LanguageModel, down: Site) -> tuple[str, ...]:
    """The kinds of sites of whose weights a dropped neuron saves its row or column."""
    have = {site.kind for site in model.sites if site.layer == down.layer}
    return tuple(kind for kind in BLOCK if kind in have)


def fixed_plan(
    method: str, calibrator: Calibrator, level: float, masks: Mapping[int, torch.Tensor]
) -> Plan:
    """A plan in which every token keeps the neurons marked in ``masks``, by layer."""
    model = calibrator.model
    return neuron_plan(
        method,
        calibrator,
        level,
        {
            name: FixedNeurons(masks[site.layer].to(model.device), skipped_kinds(model, site))
            for name, site in down_sites(model).items()
        },
    )


def neuron_plan(
    method: str,
    calibrator: Calibrator,
    level: float,
    neurons: Mapping[str, NeuronSelector],
    cost: Mapping[str, float] | None = None,
) -> Plan:
    """A plan that drops the nearest number to ``level`` of each layer's neurons."""
    if not 0 <= level <= 1:
        raise SparsityError(f"{method}: the level must be in [0, 1], not {level!r}")
    widths = {name: site.module.in_features for name, site in down_sites(calibrator.model).items()}
    return Plan(
        method=method,
        level=level,
        selectors={},
        prefill=calibrator.prefill,
        neurons=neurons,
        targets={name: dropped_count(level, width) / width for name, width in widths.items()},
        exact=True,
        cost=dict(cost or {}),
    )
