"""What a sweep works with: models, text, plans and vectors, each made once per process."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.errors import SparsityError, blaming
from pytest_sparsity.evaluation.corpora import Corpus, assert_disjoint, corpus
from pytest_sparsity.evaluation.generation import continue_greedily
from pytest_sparsity.evaluation.perplexity import Window, dense_states, windows
from pytest_sparsity.evaluation.tasks import Task, task
from pytest_sparsity.files import default_cache, sha256_text
from pytest_sparsity.methods.attach import Attached, sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.registry import Method, by_name
from pytest_sparsity.models import LanguageModel, load_model
from pytest_sparsity.models.forward import check_head
from pytest_sparsity.options import Settings
from pytest_sparsity.progress import Progress, silent
from pytest_sparsity.spon.library import VectorLibrary
from pytest_sparsity.spon.residual import mean_residual
from pytest_sparsity.spon.training import Recipe
from pytest_sparsity.spon.vectors import SpontaneousVectors
from pytest_sparsity.sweep.cell import (
    GENERATION,
    MEAN_RESIDUAL,
    OFF,
    PERPLEXITY,
    TRAINED,
    Cell,
    Configuration,
)
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
        self._methods = by_name(methods)
        with blaming("--sparsity-methods"):
            for name in settings.methods:
                self.method(name)
        self._attached: tuple[Configuration, LanguageModel, Attached] | None = None
        self._states: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        self._models: dict[str, LanguageModel] = {}

    def method(self, name: str) -> Method:
        """The method with this name, other than dense.

        Raises:
            SparsityError: there is none.
        """
        if name not in self._methods:
            raise SparsityError(
                f"method {name!r} is unknown; known are {', '.join(['dense', *self._methods])}"
            )
        return self._methods[name]

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
                self._models[found.name] = found
        return self._models

    def model(self, name: str) -> LanguageModel:
        """The dense model with this short name."""
        if name not in self._models:
            self.load_all()
        return self._models[name]

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
    def task(self, name: str) -> Task:
        """A task, its items and choices shuffled by the seed."""
        with blaming("--sparsity-tasks"):
            return task(
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
        found = windows(text.documents, loaded.tokenizer, length, loaded.bos)
        if not found:
            raise SparsityError(
                f"corpus {text.name!r} ({text.split}) has no document of {length} tokens for "
                f"{model}; give longer documents"
            )
        return found

    @cache  # noqa: B019
    def calibrator(self, model: str) -> Calibrator:
        """Calibration of a model, its thresholds for all levels of the settings in one pass."""
        sizes = self.settings.sizes
        text = self._windows(model, self.calibration_corpus, sizes.window)[: sizes.calibration]
        return Calibrator(
            self.model(model),
            [window.tokens for window in text],
            self.prefill,
            self.cache,
            self.progress,
        )

    @cache  # noqa: B019
    def plan(self, configuration: Configuration) -> Plan:
        """How a configuration is sparsified, SPON folded in.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
        """
        calibrator = self.calibrator(configuration.model)
        if configuration.level in self.settings.levels:
            calibrator.prepare(self.settings.levels)
        plan = self.method(configuration.method).plan(calibrator, configuration.level)
        if configuration.spon == OFF:
            return plan
        bias = self.vectors(configuration).fold(self.model(configuration.model))
        return Plan(plan.method, plan.level, plan.selectors, plan.prefill, bias)

    @cache  # noqa: B019
    def vectors(self, configuration: Configuration) -> SpontaneousVectors:
        """The spontaneous vectors of a configuration.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
        """
        model, plan = self.model(configuration.model), self.plan(configuration.without_spon)
        calibrator = self.calibrator(configuration.model)
        if configuration.spon == MEAN_RESIDUAL:
            return mean_residual(model, plan, calibrator.tokens, self.progress)
        return self.library.get(model, plan, self.training_streams(configuration.model))

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
            twin = self.model(configuration.model).twin()
            self._attached = (configuration, twin, sparsify(twin, self.plan(configuration)))
        return self._attached[1:]

    def dense_states(
        self, model: str, corpus_name: str, documents: list[Window]
    ) -> dict[str, torch.Tensor]:
        """Hidden states of the dense model on ``documents``, kept for the next cell."""
        known = self._states.setdefault((model, corpus_name), {})
        known.update(dense_states(self.model(model), [w for w in documents if w.id not in known]))
        return known

    @cache  # noqa: B019
    def dense_paths(self, model: str) -> list[list[int]]:
        """The dense model's greedy continuation of every prompt."""
        prompts, steps = self.prompts(model), self.settings.sizes.new_tokens
        return continue_greedily(self.model(model), prompts, steps)

    def key(self, cell: Cell) -> dict[str, Any]:
        """Everything that makes two records of ``cell`` comparable."""
        configuration, settings = cell.configuration, self.settings
        model = self.model(configuration.model)
        key: dict[str, Any] = {
            "weights": model.weights_hash,
            "dtype": str(model.dtype).removeprefix("torch."),
            "target": self.target.fingerprint,
            "seed": settings.seed,
            "data": self._data(cell),
            "versions": versions(),
            "code": _code_hash(),
        }
        if configuration.method != "dense":
            method = self.method(configuration.method)
            key["method"] = dict(method.parameters)
            if (source := _foreign_source(method)) is not None:
                key["method_source"] = source
            key["calibration"] = self.calibrator(configuration.model).hash
            key["prefill"] = self.prefill.name
            key["spon"] = configuration.spon
            if configuration.spon == TRAINED:
                key["spon"] = self.vectors(configuration).hash
        return key

    def sources(self) -> dict[str, str]:
        """Every corpus and task in use: split, licence and hash."""
        texts = [self.calibration_corpus, *map(self.evaluation_corpus, self.settings.corpora)]
        found = {f"{t.name} ({t.split})": f"{t.licence}; {t.hash[:16]}" for t in texts}
        for asked in map(self.task, self.settings.tasks):
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
        return {"task": self.task(cell.subject).hash, "draw": sizes.items}


@cache
def _code_hash() -> str:
    """Identifies the code that numbers depend on, so that a changed method is measured anew."""
    package = Path(__file__).parents[1]
    folders = ("evaluation", "kernels", "methods", "models", "spon")
    files = sorted(file for folder in folders for file in (package / folder).rglob("*.py"))
    return sha256_text(*(file.read_text(encoding="utf-8") for file in files))[:16]


def _foreign_source(method: Method) -> str | None:
    """Identifies the file of a method that is not ours: what it says may change as well."""
    file = inspect.getsourcefile(type(method))
    if file is None or Path(__file__).parents[1] in Path(file).resolve().parents:
        return None
    return sha256_text(Path(file).read_text(encoding="utf-8"))[:16]


@cache
def versions() -> dict[str, str | None]:
    """Versions of this package and of those that numbers depend on; None if not installed."""
    found: dict[str, str | None] = {}
    for name in ("pytest-sparsity", "torch", "transformers", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
