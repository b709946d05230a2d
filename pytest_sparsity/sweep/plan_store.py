"""Plans and spontaneous vectors of configurations, each made once, and what making them took."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_sparsity.core.progress import Progress
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.registry import wants_of
from pytest_sparsity.methods.spon.library import VectorLibrary
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models.compression.names import CASTS, LOADED
from pytest_sparsity.settings.options import MEAN_RESIDUAL, OFF, TRAINED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.calibration_store import CalibrationStore
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.code_hash import variant
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.text_store import TextStore


@dataclass(frozen=True, eq=False)
class PlanStore:
    """Makes plans, and the vectors that are folded into them.

    Attributes:
        settings: which sites and layers have vectors, and whether they may be trained.
        cache: folder that trained vectors are kept in.
        progress: shows training.
        methods: by name.
        models: as they were loaded: they teach vectors.
        texts: what vectors are trained on.
        calibrations: what methods make plans from.
    """

    settings: Settings
    cache: Path
    progress: Progress
    methods: ChosenMethods
    models: ModelStore
    texts: TextStore
    calibrations: CalibrationStore

    @functools.cache  # noqa: B019 - a store lives as long as its session
    def plan(self, configuration: Configuration) -> Plan:
        """How a configuration is sparsified, SPON folded in.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
            SparsityError: there is no such method, or it cannot make a plan for the model.
        """
        calibrator = self.calibrations.prepared(configuration.model, configuration.weights)
        method = self.methods.method(configuration.method)
        given = self.methods.given_to(method, calibrator.model)
        own = f"{variant(method)}-{given}" if given else variant(method)
        plan = replace(method.plan(calibrator, configuration.level), variant=own)
        if configuration.spon == OFF:
            return plan
        bias = self.vectors(configuration).fold(calibrator.model)
        return replace(plan, bias=bias)

    @functools.cache  # noqa: B019
    def vectors(self, configuration: Configuration) -> SpontaneousVectors:
        """The spontaneous vectors of a configuration.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
        """
        if configuration.spon == TRAINED and configuration.weights in CASTS:
            # The numbers are the same, at most rounded: what they lose by sparsity is, too.
            return self.vectors(replace(configuration, weights=LOADED))
        plan = self.plan(configuration.without_spon)
        calibrator = self.calibrations.calibrator(configuration.model, configuration.weights)
        if configuration.spon == MEAN_RESIDUAL:
            return mean_residual(calibrator.model, plan, calibrator.tokens, self.progress)
        streams = self.texts.training_streams(configuration.model)
        teacher = self.models.load(configuration.model)
        return self.library.get(calibrator.model, plan, streams, teacher, configuration.weights)

    @functools.cached_property
    def library(self) -> VectorLibrary:
        """Trained vectors: shipped, cached, or trained now if the settings allow it."""
        recipe = Recipe(sites=self.settings.spon_sites, layers=self.settings.spon_layers)
        return VectorLibrary(self.cache, recipe, self.settings.train, self.progress)

    def preparation(self, configuration: Configuration) -> dict[str, Any]:
        """What a sparse configuration took before it could be measured, as tokens and seconds.

        ``calibration`` is shared with other configurations; ``method`` is what the method did
        beyond it, and ``spon`` the training of vectors, with the hash of the weights that it was
        for: for casts those of the model as it was loaded.  All are those of the run that made
        them, also where they come from the cache.
        """
        wants = wants_of(self.methods.method(configuration.method))
        calibrator = self.calibrations.prepared(configuration.model, configuration.weights)
        cost = calibrator.cost(wants, configuration.level)
        found: dict[str, Any] = {
            "calibration": {"tokens": cost.tokens, "seconds": cost.seconds},
        }
        if plan_cost := self.plan(configuration.without_spon).cost:
            found["method"] = dict(plan_cost)
        if configuration.spon == TRAINED:
            own = self.vectors(configuration).provenance
            named = {"tokens": "training_tokens", "seconds": "seconds", "weights": "weights"}
            found["spon"] = {name: own.get(key) for name, key in named.items()}
        return found
