"""Statistics of models' activations for methods, collected in as few passes as possible."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_sparsity.core.progress import Progress
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.registry import wants_of
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.text_store import TextStore
from pytest_sparsity.sweep.weight_store import WeightStore


@dataclass(frozen=True, eq=False)
class CalibrationStore:
    """Calibrates models on the calibration text.

    Attributes:
        settings: the methods, levels and weights that are prepared together.
        cache: folder that calibrations are kept in.
        progress: shows calibration.
        prefill: which positions stay dense.
        methods: by name.
        texts: what is calibrated on.
        weights: the models.
    """

    settings: Settings
    cache: Path
    progress: Progress
    prefill: PrefillPolicy
    methods: ChosenMethods
    texts: TextStore
    weights: WeightStore
    _expected: dict[str, tuple[set[str], set[float]]] = field(default_factory=dict, init=False)

    def calibrator(self, model: str, weights: str = LOADED) -> Calibrator:
        """Calibration of a model with these weights.

        Raises:
            SparsityError: the model or the text cannot be had, or the weights not compressed.
        """
        return self._of_loaded(model) if weights == LOADED else self._of_compressed(model, weights)

    def expect(self, configurations: Iterable[Configuration]) -> None:
        """Let :meth:`prepared` collect what these configurations need, too."""
        for configuration in configurations:
            if configuration.method != "dense":
                names, levels = self._expected.setdefault(configuration.weights, (set(), set()))
                names.add(configuration.method)
                levels.add(configuration.level)

    def prepared(self, model: str, weights: str = LOADED) -> Calibrator:
        """The calibrator, with what all methods want at all levels, of those that are expected.

        Expected are the settings' and what :meth:`expect` was told.  That is one pass over the
        text (and one to resolve quantiles of float32).

        Raises:
            SparsityError: the model or the text cannot be had, or the weights not compressed.
        """
        calibrator = self.calibrator(model, weights)
        names, levels = self._expected.get(weights, (set(), set()))
        if weights in self.settings.weights or weights not in self._expected:
            names = names.union(self.settings.methods)
            levels = levels.union(self.settings.levels)
        wants = (want for name in sorted(names) for want in wants_of(self.methods.method(name)))
        calibrator.prepare(sorted(levels), wants)
        return calibrator

    @functools.cache  # noqa: B019 - a store lives as long as its session
    def hash(self, model: str, weights: str) -> str:
        """Identifies a calibration, without compressing or calibrating anything."""
        return self._calibrate(self.weights.named(model, weights)).hash

    @functools.cache  # noqa: B019
    def _of_loaded(self, model: str) -> Calibrator:
        return self._calibrate(self.weights.model(model))

    @functools.lru_cache(maxsize=1)  # noqa: B019 - it holds the model
    def _of_compressed(self, model: str, weights: str) -> Calibrator:
        return self._calibrate(self.weights.model(model, weights))

    def _calibrate(self, model: LanguageModel) -> Calibrator:
        return Calibrator(
            model,
            self.texts.calibration_tokens(model.name),
            self.prefill,
            self.cache,
            self.progress,
            more=lambda: self.texts.learning_tokens(model.name),
            given=self.methods.given,
        )
