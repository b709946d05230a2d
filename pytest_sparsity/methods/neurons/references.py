"""What a predictor could reach: the natural zeros, and neurons by what they contribute."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.activity import (
    calibrated_counts,
    contribution,
    down_sites,
    tail_of,
)
from pytest_sparsity.methods.neurons.plans import SkipsNeurons, neuron_plan
from pytest_sparsity.methods.neurons.scores import counting, cut_at_share
from pytest_sparsity.methods.neurons.selectors import ContributingNeurons, NonzeroNeurons
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel


class ExactZeros:
    """Skips the neurons that are exactly 0: what no rule can beat without a loss.

    It has no level: how many they are is the model's, and they cost nothing.  Only activation
    functions such as ReLU have any.
    """

    name = "exact_zeros"
    parameters: Mapping[str, object] = {"skips": "h == 0"}
    wants: tuple[str, ...] = ("neuron_activations", "neuron_truncation_errors")

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The neurons that are not 0, token by token; ``level`` is not asked for.

        Raises:
            SparsityError: the model's activation function gives no exact zeros.
        """
        self.check_model(calibrator.model, calibrator.given)
        found = calibrated_counts(calibrator)
        return neuron_plan(
            self.name,
            calibrator,
            level,
            lambda site, skips: NonzeroNeurons(skips),
            {
                layer: 1 - int(counts.sum()) / (found.tokens * len(counts))
                for layer, counts in found.counts.items()
            },
        )

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that a model has neurons to skip, and an activation function that gives zeros.

        Raises:
            SparsityError: it has no such.
        """
        if tail_of(model) != 0:
            raise SparsityError(
                f"method {self.name}: the activation function of {model.name} gives no exact "
                "zeros; leave it out of --sparsity-methods for this model"
            )
        down_sites(model)


class Contribution(SkipsNeurons):
    """Skips the neurons that contribute least, by one threshold on |h_j| ||d_j|| for all layers.

    It knows every neuron's value before it is computed, so a predictor's rule of the same kind is
    held against it.  It is no bound: it looks at neurons one by one and not at what cancels, and
    where a predictor does better the results say so.
    """

    name = "contribution"
    parameters: Mapping[str, object] = {"by": "|h_j| ||d_j|| > t, one t for all layers"}
    wants: tuple[str, ...] = ()

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The neurons above the threshold of ``level``, the mean share on calibration text."""
        model = calibrator.model
        norms = {site.layer: column_norms(site, model) for site in down_sites(model).values()}
        counted = calibrator.collected(
            counting("neuron_contributions", "down", lambda n, h: contribution(h, norms[n])),
            calibrator.tokens,
        )
        cut = cut_at_share(counted, level)
        value, shares = cut.value, cut.shares
        if value <= 0:  # what contributes nothing is skipped in any case, see Plan.plateau
            value, shares = 0.0, dict.fromkeys(cut.shares, level)
        return neuron_plan(
            self.name,
            calibrator,
            level,
            lambda site, skips: ContributingNeurons(value, norms[site.layer], skips),
            shares,
        )
