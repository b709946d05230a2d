"""The texts and tasks of a run, each read once, and cut into what a model reads of them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError, SparsityWarning, blaming
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.evaluation.corpora import Corpus, Split, assert_disjoint, corpus
from pytest_sparsity.evaluation.harness import HarnessTask
from pytest_sparsity.evaluation.perplexity import Window, windows
from pytest_sparsity.evaluation.resolve_task import resolve_task
from pytest_sparsity.evaluation.sampling import drawn
from pytest_sparsity.evaluation.tasks import TASKS, Task
from pytest_sparsity.models.tokens import position_limit, text_tokens
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    EXACT_MATCH,
    PERPLEXITY,
    TASK,
    Cell,
)
from pytest_sparsity.sweep.grid import task_names
from pytest_sparsity.sweep.model_store import ModelStore

#: The kinds of tasks that each kind of evaluation can score.
_KINDS = {
    TASK: ("choice", "last_word"),
    EXACT_MATCH: ("choice", "last_word", "chain"),
    ANSWER_LIKELIHOOD: ("chain",),
    DIVERGENCE: ("chain",),
}
_PROMPT = 32  # tokens


@dataclass(frozen=True, eq=False)
class TextStore:
    """Reads corpora and tasks, and cuts corpora into windows of tokens.

    Attributes:
        settings: names corpora and tasks, and says how much of them is read.
        cache: folder that downloads are kept in.
        progress: shows downloads.
        models: whose tokenizers cut the text.
        own_tasks: of others, by name.
        own_corpora: of others, by name and split.
    """

    settings: Settings
    cache: Path
    progress: Progress
    models: ModelStore
    own_tasks: Mapping[str, Task] = field(default_factory=dict)
    own_corpora: Mapping[tuple[str, Split], Corpus] = field(default_factory=dict)

    @functools.cached_property
    def calibration_corpus(self) -> Corpus:
        """Text for thresholds and training, disjoint from every evaluation corpus.

        It is the same for all seeds, and so are thresholds and vectors: seeds differ in what a
        model is evaluated on, not in the model.

        Raises:
            SparsityError: it cannot be read, or shares a document with one of those.
        """
        with blaming("--sparsity-calibration"):
            found = corpus(self.settings.calibration, "calibration", self.own_corpora)
        for name in self.settings.corpora:
            assert_disjoint(found, self.evaluation_corpus(name))
        return found

    @functools.cache  # noqa: B019 - a store lives as long as its session
    def evaluation_corpus(self, name: str) -> Corpus:
        """Text for perplexity, in the order in which the seed draws its documents.

        Raises:
            SparsityError: it cannot be read.
        """
        with blaming("--sparsity-corpora"):
            found = corpus(name, "evaluation", self.own_corpora)
        return drawn(found, self.settings.seed)

    @property
    def first_corpus(self) -> Corpus:
        """The first evaluation corpus: what is measured on one text only is measured on it."""
        return self.evaluation_corpus(self.settings.corpora[0])

    @functools.cache  # noqa: B019
    def task(self, name: str) -> Task | HarnessTask:
        """A task, its items and choices shuffled by the seed.

        Raises:
            SparsityError: there is none, or it cannot be read.
        """
        with blaming("--sparsity-tasks"):
            return resolve_task(
                name,
                seed=self.settings.seed,
                data=self.settings.data,
                cache=self.cache,
                progress=self.progress,
                own=self.own_tasks,
            )

    def task_of(self, evaluation: str) -> Task | HarnessTask:
        """The task of ``KIND:TASK``, which is one that such an evaluation can score.

        Raises:
            SparsityError: there is no such task, or it is of a kind that the evaluation cannot
                score.
        """
        kind, _, name = evaluation.partition(":")
        task = self.task(name)
        if isinstance(task, HarnessTask):
            if kind != TASK:
                raise SparsityError(
                    f"--sparsity-tasks: {evaluation}: lm-eval scores its own tasks; leave out "
                    f"{kind}: before it"
                )
        elif task.kind not in _KINDS[kind]:
            able = [known for known, spec in TASKS.items() if spec.kind in _KINDS[kind]]
            has = "no reference" if "chain" in _KINDS[kind] else "only reference"
            raise SparsityError(
                f"--sparsity-tasks: {evaluation}: task {task.name} has {has} chains of thought, "
                f"and cannot be measured by {kind}; tasks that can are {', '.join(able)}"
            )
        return task

    @functools.cache  # noqa: B019
    def windows(self, model: str, corpus_name: str) -> list[Window]:
        """All windows of an evaluation corpus for a model.

        Raises:
            SparsityError: no document is long enough, or the model's context is too short.
        """
        text = self.evaluation_corpus(corpus_name)
        return self._windows(model, text, self.settings.sizes.window)

    @functools.cache  # noqa: B019
    def prompts(self, model: str) -> list[Window]:
        """The beginnings of documents that generation continues: 32 tokens each.

        Raises:
            SparsityError: no document is long enough, or the model's context is too short.
        """
        found = self._windows(model, self.first_corpus, _PROMPT)
        return found[: self.settings.sizes.prompts]

    def available(self, cell: Cell) -> int:
        """How many units of text a cell could be measured on; not of generation.

        Raises:
            SparsityError: its text or task cannot be had.
        """
        if cell.kind == PERPLEXITY:
            return len(self.windows(cell.configuration.model, cell.subject))
        return len(self.task(cell.subject).items)

    @functools.cache  # noqa: B019
    def calibration_tokens(self, model: str) -> list[torch.Tensor]:
        """The documents that thresholds and weights are calibrated on, int64 [T] each.

        Raises:
            SparsityError: no document is long enough, or the model's context is too short.
        """
        return self._calibration_windows(model)[: self.settings.sizes.calibration]

    def learning_tokens(self, model: str) -> list[torch.Tensor]:
        """The documents beyond those of calibration, int64 [T] each: predictors learn from them.

        Raises:
            SparsityError: no document is long enough, or the model's context is too short.
        """
        return self._calibration_windows(model)[self.settings.sizes.calibration :]

    @functools.cache  # noqa: B019
    def training_streams(self, model: str) -> dict[str, torch.Tensor]:
        """The calibration text as one stream of tokens per source, int64 [T] each."""
        loaded = self.models.load(model)
        sources: dict[str, list[str]] = {}
        for document in self.calibration_corpus.documents:
            sources.setdefault(document.source, []).append(document.text)
        return {
            source: torch.tensor([token for text in texts for token in text_tokens(loaded, text)])
            for source, texts in sources.items()
        }

    def sources(self) -> dict[str, str]:
        """Licence and hash of every corpus and task of the settings, by name.

        Raises:
            SparsityError: one cannot be had.
        """
        texts = [self.calibration_corpus, *map(self.evaluation_corpus, self.settings.corpora)]
        found = {f"{t.name} ({t.split})": f"{t.licence}; {t.hash[:16]}" for t in texts}
        for task in map(self.task, task_names(self.settings)):
            found[task.name] = f"{task.licence}; {task.hash[:16]}"
        return found

    @functools.cache  # noqa: B019
    def _calibration_windows(self, model: str) -> list[torch.Tensor]:
        length = self.settings.sizes.window
        return [w.tokens for w in self._windows(model, self.calibration_corpus, length)]

    def _windows(self, model: str, text: Corpus, length: int) -> list[Window]:
        loaded = self.models.load(model)
        positions = position_limit(loaded)
        if positions and length > positions:
            raise SparsityError(
                f"--sparsity-model {model} has {positions} positions, and {length} tokens are read "
                "of every document; choose a model with a longer context"
            )
        found = windows(text.documents, loaded, length)
        if not found:
            raise SparsityError(
                f"corpus {text.name!r} ({text.split}) has no document of {length} tokens for "
                f"{model}; give longer documents"
            )
        if left_out := len(text.documents) - len(found):
            warnings.warn(
                f"corpus {text.name!r} ({text.split}): {left_out:,} of {len(text.documents):,} "
                f"documents have less than {length} tokens for {model} and are left out; to "
                "measure all of it give longer documents",
                SparsityWarning,
                stacklevel=2,
            )
        return found
