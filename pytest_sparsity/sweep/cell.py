"""Names of what is measured: a configuration of a model, and one evaluation of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_sparsity.methods.levels import has_level
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.options import OFF, TRAINED
from pytest_sparsity.settings.settings import Sizes

PERPLEXITY = "perplexity"
TASK = "task"
EXACT_MATCH = "exact_match"
ANSWER_LIKELIHOOD = "answer_likelihood"
DIVERGENCE = "divergence"
GENERATION = "generation"
#: Evaluations of a task, ``KIND:TASK``.
TASK_KINDS = (TASK, EXACT_MATCH, ANSWER_LIKELIHOOD, DIVERGENCE)


@dataclass(frozen=True, order=True)
class Configuration:
    """A model, how its weights are compressed and how its activations are sparsified.

    Attributes:
        model: short name of the model.
        method: ``dense`` or the name of a method.
        level: target fraction of zeroed activations; 0 for dense, and for methods that have a
            cut of their own.
        spon: one of ``SPON``, see ``settings.options``.
        weights: ``loaded`` or the name of a compression.
    """

    model: str
    method: str = "dense"
    level: float = 0.0
    spon: str = OFF
    weights: str = LOADED

    @property
    def id(self) -> str:
        """Readable name, for test ids: ``smollm2-135m-int4-teal-0.50-spon``."""
        model = self.model if self.weights == LOADED else f"{self.model}-{self.weights}"
        if self.method == "dense":
            return f"{model}-dense"
        setting = {OFF: "", TRAINED: "-spon"}.get(self.spon, f"-{self.spon}")
        level = f"-{level_text(self.level)}" if has_level(self.method) else ""
        return f"{model}-{self.method}{level}{setting}"

    @property
    def dense(self) -> Configuration:
        """The same model as it was loaded, dense: what all others are compared with."""
        return Configuration(self.model)

    @property
    def is_reference(self) -> bool:
        """Whether it is the model as it was loaded, dense."""
        return self.method == "dense" and self.weights == LOADED

    @property
    def weights_only(self) -> Configuration:
        """The same model with the same weights, its activations dense."""
        return Configuration(self.model, weights=self.weights)

    @property
    def without_spon(self) -> Configuration:
        """The same method and level with spontaneous neurons off."""
        return replace(self, spon=OFF)


@dataclass(frozen=True, order=True)
class Cell:
    """One evaluation of one configuration: the unit that is measured, stored and resumed.

    Attributes:
        configuration: what is evaluated.
        evaluation: ``perplexity:CORPUS``, ``KIND:TASK`` with one of ``TASK_KINDS``, or
            ``generation``.
    """

    configuration: Configuration
    evaluation: str

    @property
    def id(self) -> str:
        """Readable name: the configuration's, then the evaluation."""
        return f"{self.configuration.id}-{self.evaluation}"

    @property
    def kind(self) -> str:
        """``perplexity``, one of ``TASK_KINDS`` or ``generation``."""
        return self.evaluation.partition(":")[0]

    @property
    def subject(self) -> str:
        """The corpus or task; empty for generation."""
        return self.evaluation.partition(":")[2]

    @property
    def dense(self) -> Cell:
        """The same evaluation of the dense model as it was loaded."""
        return replace(self, configuration=self.configuration.dense)

    @property
    def weights_only(self) -> Cell:
        """The same evaluation with the same weights and dense activations."""
        return replace(self, configuration=self.configuration.weights_only)

    @property
    def without_spon(self) -> Cell:
        """The same evaluation with spontaneous neurons off."""
        return replace(self, configuration=self.configuration.without_spon)

    def units(self, sizes: Sizes) -> int:
        """Documents, items or prompts of one draw.

        Divergence compares text token by token, every item a text as long as a document's
        window: there are as many as documents, not as many as answers must be.
        """
        if self.kind == GENERATION:
            return sizes.prompts
        return sizes.documents if self.kind in (PERPLEXITY, DIVERGENCE) else sizes.items


def on_text(corpus: str) -> str:
    """The evaluation of perplexity on a corpus."""
    return f"{PERPLEXITY}:{corpus}"


def product(configurations: Iterable[Configuration], evaluations: Iterable[str]) -> list[Cell]:
    """Every evaluation of every configuration."""
    evaluations = list(evaluations)
    return [Cell(c, evaluation) for c in configurations for evaluation in evaluations]


def level_text(level: float) -> str:
    """A level with at least two decimals and no fewer than it needs: 0.50, 0.125."""
    text = repr(level)
    return f"{level:.2f}" if float(f"{level:.2f}") == level else text
