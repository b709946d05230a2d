"""Everything that makes two records of one cell comparable."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.core.provenance import versions
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.models.tokens import tokens_hash
from pytest_sparsity.settings.options import TRAINED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.calibration_store import CalibrationStore
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.code_hash import code_hash, foreign_source
from pytest_sparsity.sweep.plan_store import PlanStore
from pytest_sparsity.sweep.text_store import TextStore
from pytest_sparsity.sweep.weight_store import WeightStore
from pytest_sparsity.targets import HardwareTarget


@dataclass(frozen=True, eq=False)
class RecordKeys:
    """Makes the keys of cells; compresses, calibrates and measures nothing.

    Attributes:
        settings: seed and sizes.
        target: the machine.
        methods: by name.
        texts: what cells are evaluated on.
        weights: hashes of weights.
        calibrations: hashes of calibrations.
        plans: hashes of vectors.
    """

    settings: Settings
    target: HardwareTarget
    methods: ChosenMethods
    texts: TextStore
    weights: WeightStore
    calibrations: CalibrationStore
    plans: PlanStore

    def of(self, cell: Cell) -> dict[str, Any]:
        """The key of a cell, as plain data.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
            SparsityError: its model, text or method cannot be had.
        """
        configuration = cell.configuration
        model = self.weights.named(configuration.model, configuration.weights)
        key: dict[str, Any] = {
            "weights": model.weights_hash,
            "network": model.network_hash,
            "tokens": self._tokens(configuration.model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "target": self.target.fingerprint,
            "seed": self.settings.seed,
            "data": self._data(cell),
            "versions": versions(),
            "code": code_hash(),
        }
        if model.first_tokens not in ((), (model.tokenizer.bos_token_id,)):
            # They were left out before, and records without are still those of other models.
            key["first_tokens"] = list(model.first_tokens)
        if configuration.method != "dense":
            method = self.methods.method(configuration.method)
            key["method"] = dict(method.parameters)
            if (source := foreign_source(method)) is not None:
                key["method_source"] = source
            if given := self.methods.given_to(method, model):
                key["given"] = given
            key["calibration"] = self.calibrations.hash(configuration.model, configuration.weights)
            key["prefill"] = self.calibrations.prefill.name
            key["spon"] = configuration.spon
            if configuration.spon == TRAINED:
                key["spon"] = self.plans.vectors(configuration).hash
        return key

    @functools.cache  # noqa: B019 - keys live as long as their session
    def _tokens(self, model: str) -> str:
        """How the model's tokenizer cuts text."""
        return tokens_hash(self.weights.named(model, LOADED).tokenizer)

    def _data(self, cell: Cell) -> Mapping[str, Any]:
        """What is read: hashes of texts in their order, and which seed drew it unless it is 0."""
        data = self._read(cell)
        return {**data, "sample": self.settings.seed} if self.settings.seed else data

    def _read(self, cell: Cell) -> Mapping[str, Any]:
        sizes, texts = self.settings.sizes, self.texts
        if cell.kind == PERPLEXITY:
            return {"corpus": texts.evaluation_corpus(cell.subject).hash, "window": sizes.window}
        if cell.kind == GENERATION:
            return {
                "corpus": texts.first_corpus.hash,
                "prompts": sizes.prompts,
                "new_tokens": sizes.new_tokens,
            }
        # The items of a draw are packed together, which shows in the last bits.
        data = {"task": texts.task(cell.subject).hash, "draw": cell.units(sizes)}
        if cell.kind == DIVERGENCE:  # the prose that reasoning is compared with
            data["corpus"] = texts.first_corpus.hash
        return data
