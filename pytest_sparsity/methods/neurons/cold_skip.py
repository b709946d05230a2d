"""Neurons skipped in a fixed number per layer and token: by a predictor, or by their values.

This was taken for PowerInfer's rule, and is Deja Vu's (arXiv 2310.17157): PowerInfer compares
scores with one threshold, see :mod:`.predicted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from weakref import WeakKeyDictionary

from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons import activity, predictor, training
from pytest_sparsity.methods.neurons.activity import TAIL, down_sites
from pytest_sparsity.methods.neurons.plans import (
    ACTIVE,
    COUNT,
    SkipsNeurons,
    highest_scores_plan,
    neuron_plan,
)
from pytest_sparsity.methods.neurons.predictor import Predictor, made_once
from pytest_sparsity.methods.neurons.selectors import LargestNeurons
from pytest_sparsity.methods.neurons.training import (
    PredictorRecipe,
    mlp_inputs,
    train_predictor,
)
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.topk_mask import dropped_count
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel

#: The code that stored predictors depend on.
_PREDICTING = (activity.__file__, predictor.__file__, training.__file__)

#: Recalls at which errors of a predictor are injected besides 1, which is the oracle.
RECALLS = (0.99, 0.95, 0.9)


class ColdSkipOracle(SkipsNeurons):
    """Every token skips the neurons that add least to its output, as if it knew them.

    A reference for ``cold_skip`` and no bound: rules that skip a number that varies by token lose
    less.  With ``recall`` below 1 a share of the neurons that should be kept is missed, and as
    many others are kept instead.

    Args:
        recall: in (0, 1].
        seed: of what is missed.
    """

    wants: tuple[str, ...] = ()

    def __init__(self, recall: float = 1.0, seed: int = 0) -> None:
        if not 0 < recall <= 1:
            raise ValueError(f"the recall must be in (0, 1], not {recall!r}")
        self._recall, self._seed = recall, seed
        self.name = "cold_skip_oracle"
        self.parameters: Mapping[str, object] = {"count": COUNT, "by": "|h_j| ||d_j||"}
        if recall < 1:
            self.name = f"cold_skip_recall_{100 * recall:g}"
            self.parameters = {**self.parameters, "recall": recall, "seed": seed}

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The largest ``1 - level`` of every layer's neurons, token by token."""
        return neuron_plan(
            self.name,
            calibrator,
            level,
            lambda site, skips: LargestNeurons(
                dropped_count(level, site.module.in_features),
                column_norms(site, calibrator.model),
                skips,
                self._recall,
                self._seed,
            ),
        )


class ColdSkip:
    """Every token skips so many neurons, those that a predictor scores lowest; deprecated.

    It keeps the rule and the predictor that were called PowerInfer's here, so that no number
    changes under this name.  The rule is Deja Vu's, the predictor has a bias and reads the MLP's
    input behind the norm, which neither of them does: use ``powerinfer`` or ``deja_vu``.

    The predictors are trained on the calibration text once per model, kept in the cache, and
    serve all levels.  What they read themselves is not part of the achieved sparsity.

    Args:
        recipe: how the predictors are trained.
    """

    name = "cold_skip"
    note = "a fixed share of the neurons at every token: Deja Vu's rule and not PowerInfer's"
    deprecated = "use powerinfer, which has the rule that it was taken for, or deja_vu"
    wants: tuple[str, ...] = ()

    def __init__(self, recipe: PredictorRecipe | None = None) -> None:
        self._recipe = recipe or PredictorRecipe()
        self._made: WeakKeyDictionary[Calibrator, Predictor] = WeakKeyDictionary()
        self.parameters: Mapping[str, object] = {
            "active": ACTIVE,
            "count": COUNT,
            "predictor": asdict(self._recipe),
        }

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The ``1 - level`` of every layer's neurons with the highest scores, token by token.

        Raises:
            SparsityError: the predictors cannot be trained.
        """
        return highest_scores_plan(self.name, calibrator, level, self.predictor(calibrator))

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that a model has neurons to skip, and what they could be predicted from.

        Raises:
            SparsityError: it has not.
        """
        mlp_inputs(model, down_sites(model).values())

    def predictor(self, calibrator: Calibrator) -> Predictor:
        """The predictors of the calibrator's model: known, cached, or trained now.

        Raises:
            SparsityError: they cannot be trained, or a cached file is damaged.
        """
        if (found := self._made.get(calibrator)) is not None:
            return found

        def train() -> Predictor:
            how = calibrator.prefill, self._recipe, calibrator.progress
            return train_predictor(calibrator.model, calibrator.tokens, *how)

        code = (Path(file).read_text(encoding="utf-8") for file in _PREDICTING)
        recipe = sha256_text(repr(self._recipe), str(TAIL), *code)[:8]
        found = made_once(calibrator.store.folder, f"neuron-predictors-{recipe}", train)
        self._made[calibrator] = found
        return found
