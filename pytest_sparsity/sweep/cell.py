"""Names of what is measured: a configuration of a model, and one evaluation of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

OFF = "off"
TRAINED = "trained"
MEAN_RESIDUAL = "mean_residual"
SPON_SETTINGS = (OFF, MEAN_RESIDUAL, TRAINED)

PERPLEXITY = "perplexity"
TASK = "task"
GENERATION = "generation"


@dataclass(frozen=True, order=True)
class Configuration:
    """A model and how it is sparsified.

    Attributes:
        model: short name of the model.
        method: ``dense`` or the name of a method.
        level: target fraction of zeroed activations; 0 for dense.
        spon: one of ``SPON_SETTINGS``.
    """

    model: str
    method: str = "dense"
    level: float = 0.0
    spon: str = OFF

    @property
    def id(self) -> str:
        """Readable name, for test ids: ``smollm2-135m-teal-0.50-spon``."""
        if self.method == "dense":
            return f"{self.model}-dense"
        setting = {OFF: "", TRAINED: "-spon"}.get(self.spon, f"-{self.spon}")
        return f"{self.model}-{self.method}-{level_text(self.level)}{setting}"

    @property
    def dense(self) -> Configuration:
        """The same model, dense."""
        return Configuration(self.model)

    @property
    def without_spon(self) -> Configuration:
        """The same method and level with spontaneous neurons off."""
        return replace(self, spon=OFF)


@dataclass(frozen=True, order=True)
class Cell:
    """One evaluation of one configuration: the unit that is measured, stored and resumed.

    Attributes:
        configuration: what is evaluated.
        evaluation: ``perplexity:CORPUS``, ``task:NAME`` or ``generation``.
    """

    configuration: Configuration
    evaluation: str

    @property
    def id(self) -> str:
        """Readable name: the configuration's, then the evaluation."""
        return f"{self.configuration.id}-{self.evaluation}"

    @property
    def kind(self) -> str:
        """``perplexity``, ``task`` or ``generation``."""
        return self.evaluation.partition(":")[0]

    @property
    def subject(self) -> str:
        """The corpus or task; empty for generation."""
        return self.evaluation.partition(":")[2]

    @property
    def dense(self) -> Cell:
        """The same evaluation of the dense model."""
        return replace(self, configuration=self.configuration.dense)

    @property
    def without_spon(self) -> Cell:
        """The same evaluation with spontaneous neurons off."""
        return replace(self, configuration=self.configuration.without_spon)


def level_text(level: float) -> str:
    """A level with at least two decimals and no fewer than it needs: 0.50, 0.125."""
    text = repr(level)
    return f"{level:.2f}" if float(f"{level:.2f}") == level else text
