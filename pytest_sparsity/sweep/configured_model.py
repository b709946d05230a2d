"""The model of a configuration: compressed as it says, with its plan attached."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_sparsity.methods.attach import Attached, sparsify
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.plan_store import PlanStore
from pytest_sparsity.sweep.weight_store import WeightStore


@dataclass(eq=False)
class ConfiguredModel:
    """Makes the model of one configuration after the other.

    Attributes:
        weights: the models.
        plans: what is attached to them.
    """

    weights: WeightStore
    plans: PlanStore
    _last: tuple[Configuration, LanguageModel, Attached] | None = field(default=None, init=False)

    def attached(self, configuration: Configuration) -> tuple[LanguageModel, Attached]:
        """A twin of the model with the configuration's plan; the last one is kept attached.

        Args:
            configuration: other than dense.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
            SparsityError: the weights cannot be compressed, or there is no plan.
        """
        if self._last is None or self._last[0] != configuration:
            self._last = None  # before another model is made: each may be as large
            twin = self.weights.model(configuration.model, configuration.weights).twin()
            self._last = (configuration, twin, sparsify(twin, self.plans.plan(configuration)))
        return self._last[1:]
