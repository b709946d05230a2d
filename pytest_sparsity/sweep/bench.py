"""What a sweep works with: models, text, plans and vectors, each made once per process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.compression.compress import (
    Compressed,
    compress,
    compressed_dtype,
    compressed_hash,
)
from pytest_sparsity.compression.names import CASTS, LOADED
from pytest_sparsity.core.errors import SparsityError, blaming
from pytest_sparsity.core.files import default_cache
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.evaluation.asked import asked_task
from pytest_sparsity.evaluation.corpora import Corpus, assert_disjoint, corpus
from pytest_sparsity.evaluation.generation import continue_greedily
from pytest_sparsity.evaluation.harness import HarnessTask
from pytest_sparsity.evaluation.perplexity import Window, dense_states, windows
from pytest_sparsity.evaluation.probes import Probe, States, probe_states
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.methods.attach import Attached, sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.given.given import check_given
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.registry import Method, wants_of
from pytest_sparsity.models import LanguageModel, load_model
from pytest_sparsity.models.forward import check_head
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.spon.library import VectorLibrary
from pytest_sparsity.spon.residual import mean_residual
from pytest_sparsity.spon.training import Recipe
from pytest_sparsity.spon.vectors import SpontaneousVectors
from pytest_sparsity.sweep.cell import (
    DIVERGENCE,
    GENERATION,
    MEAN_RESIDUAL,
    OFF,
    PERPLEXITY,
    TRAINED,
    Cell,
    Configuration,
)
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.code_hash import code_hash, foreign_source, variant
from pytest_sparsity.sweep.grid import task_names
from pytest_sparsity.targets import HardwareTarget, resolve_target


class Bench:
    """Everything that cells share.

    Args:
        settings: what the user asked for.
        progress: told about downloads, calibration and training.
        methods: known by name besides the bundled ones.

    Raises:
        SparsityError: a setting names something that does not exist.
    """

    def __init__(
        self, settings: Settings, progress: Progress = silent, methods: Iterable[Method] = ()
    ) -> None:
        self.settings = settings
        self.cache: Path = settings.cache or default_cache()
        self.progress = progress
        self.prefill = PrefillPolicy.parse(settings.prefill)
        self.target: HardwareTarget = resolve_target(settings.target)
        self.methods = ChosenMethods(settings, methods)
        self._expected: dict[str, tuple[set[str], set[float]]] = {}
        self._attached: tuple[Configuration, LanguageModel, Attached] | None = None
        self._states: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        self._probe_states: dict[tuple[str, str], dict[str, States]] = {}
        self._models: dict[str, LanguageModel] = {}

    def method(self, name: str) -> Method:
        """The method with this name, other than dense.

        Raises:
            SparsityError: there is none.
        """
        return self.methods.method(name)

    def load_all(self) -> dict[str, LanguageModel]:
        """Load every model of the settings, by its short name.

        Raises:
            SparsityError: a model cannot be had, or two have the same short name.
        """
        for source in self.settings.models:
            found = load_model(
                source,
                dtype=self.settings.dtype,
                device=self.settings.target,
                cache=self.cache,
                progress=self.progress,
            )
            known = self._models.get(found.name)
            if known is not None and known.source != source:
                raise SparsityError(
                    f"--sparsity-model {source!r} and {known.source!r} are both called "
                    f"{found.name!r}; rename one folder"
                )
            if known is None:
                check_head(found)
                if (given := self.methods.given) is not None:
                    check_given(given, found)
                self._models[found.name] = found
        return self._models

    def model(self, name: str) -> LanguageModel:
        """The dense model with this short name, as it was loaded."""
        if name not in self._models:
            self.load_all()
        return self._models[name]

    def weighted_model(self, model: str, weights: str) -> LanguageModel:
        """The dense model with this short name, its weights compressed as ``weights`` says.

        Raises:
            SparsityError: they cannot be.
        """
        return self.model(model) if weights == LOADED else self._compressed(model, weights).model

    def compressed(self, configuration: Configuration) -> Compressed:
        """The model of a configuration with its weights compressed, and what that took."""
        return self._compressed(configuration.model, configuration.weights)

    # One at a time: each is as large as the model, and cells come in the order of their weights.
    @lru_cache(maxsize=1)  # noqa: B019
    def _compressed(self, model: str, weights: str) -> Compressed:
        with blaming("--sparsity-weights"):
            tokens = self.calibration_tokens(model)
            return compress(self.model(model), weights, tokens, self.cache, self.progress)

    @cached_property
    def calibration_corpus(self) -> Corpus:
        """Text for thresholds and training, disjoint from every evaluation corpus."""
        with blaming("--sparsity-calibration"):
            found = corpus(self.settings.calibration, "calibration")
        for name in self.settings.corpora:
            assert_disjoint(found, self.evaluation_corpus(name))
        return found

    @cache  # noqa: B019 - a bench lives as long as its session
    def evaluation_corpus(self, name: str) -> Corpus:
        """Text for perplexity."""
        with blaming("--sparsity-corpora"):
            return corpus(name, "evaluation")

    @cache  # noqa: B019
    def task(self, name: str) -> Task | HarnessTask:
        """A task, its items and choices shuffled by the seed."""
        with blaming("--sparsity-tasks"):
            return asked_task(
                name,
                seed=self.settings.seed,
                data=self.settings.data,  # type: ignore[arg-type]
                cache=self.cache,
                progress=self.progress,
            )

    @cache  # noqa: B019
    def windows(self, model: str, corpus_name: str) -> list[Window]:
        """All windows of an evaluation corpus for a model.

        Raises:
            SparsityError: no document is long enough.
        """
        return self._windows(model, self.evaluation_corpus(corpus_name), self.settings.sizes.window)

    @cache  # noqa: B019
    def prompts(self, model: str) -> list[Window]:
        """The beginnings of documents that generation continues: 32 tokens each."""
        first = self.evaluation_corpus(self.settings.corpora[0])
        return self._windows(model, first, 32)[: self.settings.sizes.prompts]

    def _windows(self, model: str, text: Corpus, length: int) -> list[Window]:
        loaded = self.model(model)
        positions = getattr(loaded.model.config, "max_position_embeddings", None)
        if positions and length > positions:
            raise SparsityError(
                f"--sparsity-model {model} has {positions} positions, and {length} tokens are read "
                "of every document; choose a model with a longer context"
            )
        found = windows(text.documents, loaded.tokenizer, length, loaded.bos)
        if not found:
            raise SparsityError(
                f"corpus {text.name!r} ({text.split}) has no document of {length} tokens for "
                f"{model}; give longer documents"
            )
        return found

    @cache  # noqa: B019
    def calibration_tokens(self, model: str) -> list[torch.Tensor]:
        """The documents that thresholds and weights are calibrated on, int64 [T] each."""
        return self._calibration_windows(model)[: self.settings.sizes.calibration]

    def _learning_tokens(self, model: str) -> list[torch.Tensor]:
        """The documents of the calibration corpus beyond those: what predictors learn from."""
        return self._calibration_windows(model)[self.settings.sizes.calibration :]

    @cache  # noqa: B019
    def _calibration_windows(self, model: str) -> list[torch.Tensor]:
        length = self.settings.sizes.window
        return [w.tokens for w in self._windows(model, self.calibration_corpus, length)]

    def calibrator(self, model: str, weights: str = LOADED) -> Calibrator:
        """Calibration of a model with these weights, all levels of the settings in one pass."""
        if weights == LOADED:
            return self._calibrator(model)
        return self._compressed_calibrator(model, weights)

    @cache  # noqa: B019
    def _calibrator(self, model: str) -> Calibrator:
        return self._calibrate(self.model(model))

    @lru_cache(maxsize=1)  # noqa: B019 - it holds the model
    def _compressed_calibrator(self, model: str, weights: str) -> Calibrator:
        return self._calibrate(self.weighted_model(model, weights))

    def expect(self, configurations: Iterable[Configuration]) -> None:
        """Prepare these as well when their weights are, besides those of the settings."""
        for configuration in configurations:
            if configuration.method != "dense":
                names, levels = self._expected.setdefault(configuration.weights, (set(), set()))
                names.add(configuration.method)
                levels.add(configuration.level)

    def prepared(self, model: str, weights: str = LOADED) -> Calibrator:
        """The calibrator, with what all methods want at all levels, of those that are expected.

        Expected are the settings' and what :meth:`expect` was told.  That is one pass over the
        text (and one to resolve quantiles of float32).
        """
        calibrator = self.calibrator(model, weights)
        names, levels = self._expected.get(weights, (set(), set()))
        if weights in self.settings.weights or weights not in self._expected:
            names, levels = names.union(self.settings.methods), levels.union(self.settings.levels)
        wants = (want for name in sorted(names) for want in wants_of(self.method(name)))
        calibrator.prepare(sorted(levels), wants)
        return calibrator

    def preparation(self, configuration: Configuration) -> dict[str, Any]:
        """What a sparse configuration took before it could be measured, as tokens and seconds.

        ``calibration`` is shared with other configurations; ``method`` is what the method did
        beyond it, and ``spon`` the training of vectors, with the hash of the weights that it was
        for: for casts those of the model as it was loaded.  All are those of the run that made
        them, also where they come from the cache.
        """
        wants = wants_of(self.method(configuration.method))
        calibrator = self.prepared(configuration.model, configuration.weights)
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

    def _calibrate(self, model: LanguageModel) -> Calibrator:
        return Calibrator(
            model,
            self.calibration_tokens(model.name),
            self.prefill,
            self.cache,
            self.progress,
            more=lambda: self._learning_tokens(model.name),
            given=self.methods.given,
        )

    @cache  # noqa: B019
    def _hashes(self, model: str, weights: str) -> tuple[str, str]:
        """Hashes of the weights and of their calibration, without compressing anything."""
        loaded, tokens = self.model(model), self.calibration_tokens(model)
        named = replace(
            loaded,
            weights_hash=compressed_hash(loaded, weights, tokens),
            dtype=compressed_dtype(loaded, weights),
        )
        return named.weights_hash, self._calibrate(named).hash

    @cache  # noqa: B019
    def plan(self, configuration: Configuration) -> Plan:
        """How a configuration is sparsified, SPON folded in.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
        """
        calibrator = self.prepared(configuration.model, configuration.weights)
        method = self.method(configuration.method)
        given = self.methods.given_to(method, calibrator.model)
        own = f"{variant(method)}-{given}" if given else variant(method)
        plan = replace(method.plan(calibrator, configuration.level), variant=own)
        if configuration.spon == OFF:
            return plan
        bias = self.vectors(configuration).fold(calibrator.model)
        return replace(plan, bias=bias)

    @cache  # noqa: B019
    def vectors(self, configuration: Configuration) -> SpontaneousVectors:
        """The spontaneous vectors of a configuration.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
        """
        if configuration.spon == TRAINED and configuration.weights in CASTS:
            # The numbers are the same, at most rounded: what they lose by sparsity is, too.
            return self.vectors(replace(configuration, weights=LOADED))
        plan = self.plan(configuration.without_spon)
        calibrator = self.calibrator(configuration.model, configuration.weights)
        if configuration.spon == MEAN_RESIDUAL:
            return mean_residual(calibrator.model, plan, calibrator.tokens, self.progress)
        streams = self.training_streams(configuration.model)
        teacher = self.model(configuration.model)
        return self.library.get(calibrator.model, plan, streams, teacher, configuration.weights)

    @cached_property
    def library(self) -> VectorLibrary:
        """Trained vectors: shipped, cached, or trained now if the settings allow it."""
        recipe = Recipe(sites=self.settings.spon_sites, layers=self.settings.spon_layers)
        return VectorLibrary(self.cache, recipe, self.settings.train, self.progress)

    @cache  # noqa: B019
    def training_streams(self, model: str) -> dict[str, torch.Tensor]:
        """The calibration text as one stream of tokens per source."""
        tokenizer = self.model(model).tokenizer
        sources: dict[str, list[str]] = {}
        for document in self.calibration_corpus.documents:
            sources.setdefault(document.source, []).append(document.text)
        return {
            source: torch.tensor(
                [
                    token
                    for text in texts
                    for token in tokenizer(text, add_special_tokens=False).input_ids
                ]
            )
            for source, texts in sources.items()
        }

    def attached(self, configuration: Configuration) -> tuple[LanguageModel, Attached]:
        """A twin of the model with the configuration's plan; the last one is kept attached."""
        if self._attached is None or self._attached[0] != configuration:
            self._attached = None  # before another model is made: each may be as large
            twin = self.weighted_model(configuration.model, configuration.weights).twin()
            self._attached = (configuration, twin, sparsify(twin, self.plan(configuration)))
        return self._attached[1:]

    def dense_states(
        self, model: str, corpus_name: str, documents: list[Window]
    ) -> dict[str, torch.Tensor]:
        """Hidden states of the dense model on ``documents``, kept for the next cell."""
        known = self._states.setdefault((model, corpus_name), {})
        known.update(dense_states(self.model(model), [w for w in documents if w.id not in known]))
        return known

    def probe_states(self, model: str, task: str, probes: list[Probe]) -> dict[str, States]:
        """Hidden states of the dense model on the ``probes`` of a task, kept for the next cell."""
        known = self._probe_states.setdefault((model, task), {})
        fresh = [probe for probe in probes if probe.id not in known]
        known.update(probe_states(self.model(model), fresh, share=self.sharing))
        return known

    @property
    def sharing(self) -> bool:
        """Whether what texts begin with may be run once for all of them."""
        # By the policy "half" it matters to the first tokens how many follow.
        return self.prefill.name != "half"

    @cache  # noqa: B019
    def dense_paths(self, model: str) -> list[list[int]]:
        """The dense model's greedy continuation of every prompt."""
        prompts, steps = self.prompts(model), self.settings.sizes.new_tokens
        return continue_greedily(self.model(model), prompts, steps)

    def key(self, cell: Cell) -> dict[str, Any]:
        """Everything that makes two records of ``cell`` comparable."""
        configuration, settings = cell.configuration, self.settings
        model = self.model(configuration.model)
        weights, calibration = self._hashes(configuration.model, configuration.weights)
        key: dict[str, Any] = {
            "weights": weights,
            "network": model.network_hash,
            "dtype": str(compressed_dtype(model, configuration.weights)).removeprefix("torch."),
            "target": self.target.fingerprint,
            "seed": settings.seed,
            "data": self._data(cell),
            "versions": versions(),
            "code": code_hash(),
        }
        if configuration.method != "dense":
            method = self.method(configuration.method)
            key["method"] = dict(method.parameters)
            if (source := foreign_source(method)) is not None:
                key["method_source"] = source
            if given := self.methods.given_to(method, model):
                key["given"] = given
            key["calibration"] = calibration
            key["prefill"] = self.prefill.name
            key["spon"] = configuration.spon
            if configuration.spon == TRAINED:
                key["spon"] = self.vectors(configuration).hash
        return key

    def sources(self) -> dict[str, str]:
        """Every corpus and task in use: split, licence and hash."""
        texts = [self.calibration_corpus, *map(self.evaluation_corpus, self.settings.corpora)]
        found = {f"{t.name} ({t.split})": f"{t.licence}; {t.hash[:16]}" for t in texts}
        for asked in map(self.task, task_names(self.settings)):
            found[asked.name] = f"{asked.licence}; {asked.hash[:16]}"
        return found

    def _data(self, cell: Cell) -> Mapping[str, Any]:
        sizes = self.settings.sizes
        if cell.kind == PERPLEXITY:
            return {"corpus": self.evaluation_corpus(cell.subject).hash, "window": sizes.window}
        if cell.kind == GENERATION:
            first = self.evaluation_corpus(self.settings.corpora[0])
            return {"corpus": first.hash, "prompts": sizes.prompts, "new_tokens": sizes.new_tokens}
        # The items of a draw are packed together, which shows in the last bits.
        data = {"task": self.task(cell.subject).hash, "draw": cell.units(sizes)}
        if cell.kind == DIVERGENCE:  # the prose that reasoning is compared with
            data["corpus"] = self.evaluation_corpus(self.settings.corpora[0]).hash
        return data
