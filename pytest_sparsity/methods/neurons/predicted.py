"""The two rules by which predictors skip neurons: PowerInfer's threshold and Deja Vu's count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from weakref import WeakKeyDictionary

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.methods import residual_stream
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.given.given import DEJA_VU, POWERINFER, check_given
from pytest_sparsity.methods.levels import NATURAL
from pytest_sparsity.methods.neurons import activity, fitting, layer_fit, predictor
from pytest_sparsity.methods.neurons.activity import TAIL
from pytest_sparsity.methods.neurons.fitting import FitRecipe, fit_predictor
from pytest_sparsity.methods.neurons.plans import ACTIVE, COUNT, highest_scores_plan, neuron_plan
from pytest_sparsity.methods.neurons.predictor import (
    LINEAR,
    RELU,
    LayerPredictor,
    Predictor,
    made_once,
)
from pytest_sparsity.methods.neurons.scores import (
    Cut,
    counting,
    cut_at_share,
    cut_at_value,
    digest,
)
from pytest_sparsity.methods.neurons.selectors import ScoredNeurons
from pytest_sparsity.methods.plan import RESIDUAL, Plan
from pytest_sparsity.models import LanguageModel, Site

#: The code that trained predictors depend on.
_FITTING = (
    *(activity.__file__, predictor.__file__, fitting.__file__),
    *(layer_fit.__file__, residual_stream.__file__),
)


class Predictors:
    """The predictors of one rule: given in files, part of the model, or trained and cached.

    Args:
        rule: ``POWERINFER`` or ``DEJA_VU``.
        recipe: how they are trained where none are given.
    """

    def __init__(self, rule: str, recipe: FitRecipe) -> None:
        self.rule = rule
        self.recipe = recipe
        self._made: WeakKeyDictionary[Calibrator, Predictor] = WeakKeyDictionary()

    def of(self, calibrator: Calibrator) -> Predictor:
        """The predictors of the calibrator's model.

        Raises:
            SparsityError: they cannot be trained, or a file of them is damaged or of another
                model.
        """
        found = self._made.get(calibrator)
        if found is None:
            found = self._given(calibrator) or self._with_model(calibrator)
            found = self._made[calibrator] = found or self._trained(calibrator)
        return found

    def _given(self, calibrator: Calibrator) -> Predictor | None:
        given = calibrator.given
        if given is None or given.predictors is None or given.predictors.rule != self.rule:
            return None
        check_given(given, calibrator.model)
        between = RELU if self.rule == POWERINFER else LINEAR
        layers = {
            number: LayerPredictor(first.float(), second.float(), between=between)
            for number, (first, second) in given.predictors.layers.items()
        }
        source = {"source": str(given.path), "hash": given.hash}
        return Predictor(layers, source, RESIDUAL, given.predictors.threshold)

    def _with_model(self, calibrator: Calibrator) -> Predictor | None:
        path = calibrator.model.predictors
        return Predictor.load(path) if path is not None and self.rule == POWERINFER else None

    def _trained(self, calibrator: Calibrator) -> Predictor:
        training, held_out = calibrator.learning_text()
        model, folder = calibrator.model, calibrator.store.folder

        def train() -> Predictor:
            how = calibrator.prefill, self.recipe, calibrator.progress
            return fit_predictor(model, training, held_out, *how)

        code = (Path(file).read_text(encoding="utf-8") for file in _FITTING)
        text = digest({str(number): tokens for number, tokens in enumerate(training)})
        name = sha256_text(repr(self.recipe), str(TAIL), text, *code)[:8]
        return made_once(folder, f"predictors-{self.rule}-{name}", train)


class _Predicted:
    """What both rules ask of a model."""

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that a model has neurons to skip, and a stream before them to predict from.

        Raises:
            SparsityError: it has not.
        """
        activity.down_sites(model)
        residual_stream.mlp_norms(model)


class PowerInfer(_Predicted):
    """Every token skips the neurons whose score is below one threshold, the same in all layers.

    The rule of PowerInfer's engine: score = fc2 relu(fc1 v) without biases, v the residual stream
    before the MLP's norm; a neuron is computed if its score is at least t.  How many are skipped
    varies by layer and token.  The level is the mean share over the text that predictors are not
    trained on; with a ``threshold`` there is no level.

    Args:
        threshold: t; ``"natural"`` is that of the file that the predictors are from, else 0, as in
            the engine; None finds it for a level.
        recipe: how predictors are trained where none are given.
    """

    def __init__(
        self, threshold: float | str | None = None, recipe: FitRecipe | None = None
    ) -> None:
        if isinstance(threshold, str) and threshold != NATURAL:
            threshold = _number(threshold)
        self.name = POWERINFER if threshold is None else f"{POWERINFER}:{_text(threshold)}"
        self.wants: tuple[str, ...] = ()
        self.takes = (POWERINFER,)
        self._threshold = threshold
        self._predictors = Predictors(POWERINFER, recipe or FitRecipe(rule=POWERINFER))
        self.parameters: Mapping[str, object] = {
            "active": ACTIVE,
            "rule": "score >= t, one t for all layers",
            "threshold": "mean share of the level" if threshold is None else threshold,
            "predictor": asdict(self._predictors.recipe),
        }

    def variant(self, text: str) -> PowerInfer:
        """The method ``powerinfer:TEXT``: a threshold that is given.

        Raises:
            SparsityError: it is no number and not ``natural``.
        """
        made = PowerInfer(text, self._predictors.recipe)
        made._predictors = self._predictors
        return made

    def predictor(self, calibrator: Calibrator) -> Predictor:
        """The predictors of the calibrator's model, see :meth:`Predictors.of`."""
        return self._predictors.of(calibrator)

    def cut(self, calibrator: Calibrator, level: float) -> Cut:
        """The threshold of a level, or the given one, and what it skips on held-out text.

        Raises:
            SparsityError: predictors cannot be had, a score is NaN, or a given threshold skips
                all neurons or none.
        """
        found = self.predictor(calibrator)
        layers = {
            number: layer.to(calibrator.model.device) for number, layer in found.layers.items()
        }
        tensors = {f"{n}.{part}": getattr(p, part) for n, p in layers.items() for part in _PARTS}
        counted = calibrator.collected(
            counting(
                f"neuron_scores_{digest(tensors)}",
                RESIDUAL if found.reads == RESIDUAL else calibrator.model.into_mlp(min(layers)),
                lambda layer, read: layers[layer].scores(read),
            ),
            calibrator.learning_text()[1],
        )
        if self._threshold is None:
            return _reached(cut_at_share(counted, level), level, calibrator.model.name)
        value = found.threshold if self._threshold == NATURAL else self._threshold
        cut = cut_at_value(counted, float(value or 0.0))
        if cut.share in (0, 1):
            raise SparsityError(
                f"--sparsity-methods {self.name}: the threshold {cut.value:g} skips "
                f"{'every neuron' if cut.share else 'no neuron'} of {calibrator.model.name} on the "
                "calibration text; are the predictors of this model? Give another threshold as "
                f"{POWERINFER}:T, or a level"
            )
        return cut

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The neurons with a score of at least the level's or the given threshold, by token.

        Raises:
            SparsityError: see :meth:`cut`.
        """
        device, found = calibrator.model.device, self.predictor(calibrator)
        cut = self.cut(calibrator, level)

        def select(site: Site, skips: tuple[str, ...]) -> ScoredNeurons:
            own = found.layers[site.layer].to(device)
            return ScoredNeurons(cut.value, predictor=own, skips=skips, reads=found.reads)

        return neuron_plan(self.name, calibrator, level, select, cut.shares, found.cost)


class DejaVu(_Predicted):
    """Every token skips so many of a layer's neurons, those with the lowest scores.

    Deja Vu's rule (arXiv 2310.17157), with its predictor: score = w1 w0 v, nothing between the
    matrices and no biases, v the residual stream before the norm.

    Args:
        recipe: how predictors are trained where none are given.
    """

    name = DEJA_VU
    wants: tuple[str, ...] = ()
    takes = (DEJA_VU,)

    def __init__(self, recipe: FitRecipe | None = None) -> None:
        self._predictors = Predictors(DEJA_VU, recipe or FitRecipe(rule=DEJA_VU))
        self.parameters: Mapping[str, object] = {
            "active": ACTIVE,
            "count": COUNT,
            "predictor": asdict(self._predictors.recipe),
        }

    def predictor(self, calibrator: Calibrator) -> Predictor:
        """The predictors of the calibrator's model, see :meth:`Predictors.of`."""
        return self._predictors.of(calibrator)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The ``1 - level`` of every layer's neurons with the highest scores, token by token.

        Raises:
            SparsityError: predictors cannot be had.
        """
        return highest_scores_plan(self.name, calibrator, level, self.predictor(calibrator))


_PARTS = ("first", "second")
#: How far a calibrated share may be from its level; what a sweep checks as well.
_NEAR = 0.02


def _reached(cut: Cut, level: float, model: str) -> Cut:
    """The cut, which must be near the level: it is not where most scores are equal."""
    if abs(cut.share - level) > _NEAR:
        raise SparsityError(
            f"method {POWERINFER}: the nearest threshold skips {100 * cut.share:.3g} % of the "
            f"neurons of {model} where {100 * level:g} % was asked for, since so many of their "
            "scores are equal; the predictors are damaged, or not of this model"
        )
    return cut


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise SparsityError(
            f"method {POWERINFER}:{text}: what stands behind the colon is the threshold; give a "
            "number, or natural for that of the file (else 0)"
        )
    return value


def _text(threshold: float | str) -> str:
    return threshold if isinstance(threshold, str) else f"{threshold:g}"
