"""The two rules by which predictors skip neurons, with predictors that are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.given.given import DEJA_VU, POWERINFER, Given, GivenPredictors
from pytest_sparsity.methods.neurons.predicted import DejaVu, PowerInfer
from pytest_sparsity.methods.neurons.predictor import LayerPredictor
from pytest_sparsity.methods.neurons.references import Contribution, ExactZeros
from pytest_sparsity.methods.neurons.selectors import ScoredNeurons
from pytest_sparsity.methods.plan import RESIDUAL, Plan
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.registry import by_name, find
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states

NONE = PrefillPolicy("none")
Documents = list[torch.Tensor]


def _given(
    model: LanguageModel, rule: str = POWERINFER, threshold: float | None = None, scale: float = 1.0
) -> Given:
    """Random predictors; ``scale`` 0 gives every neuron the score 0."""
    lot = torch.Generator().manual_seed(5)
    layers = {
        site.layer: (
            torch.randn(8, site.module.out_features, generator=lot),
            scale * torch.randn(site.module.in_features, 8, generator=lot),
        )
        for site in model.sites
        if site.kind == "down"
    }
    return Given(Path("theirs"), "0" * 16, GivenPredictors(rule, layers, threshold))


def _calibrator(
    model: LanguageModel, documents: Documents, given: Given, prefill: PrefillPolicy = NONE
) -> Calibrator:
    return Calibrator(model, documents, prefill, given=given)


def _skipped(model: LanguageModel, plan: Plan, documents: Documents) -> dict[str, float]:
    """Share of neurons that is skipped, by down site."""
    twin = model.twin()
    with sparsify(twin, plan) as attached:
        attached.counting = True
        for tokens in documents:
            hidden_states(twin, tokens)
    counts = attached.achieved.counts
    return {name: counts[name][0] / counts[name][1] for name in plan.neurons}


@pytest.fixture(params=["model", "relu_model", "opt_model"])
def any_model(request: pytest.FixtureRequest) -> LanguageModel:
    found: LanguageModel = request.getfixturevalue(request.param)
    return found


def test_powerinfers_rule(any_model: LanguageModel, documents: Documents) -> None:
    """Score by score, from the residual stream before the norm: second relu(first v) >= t."""
    given = _given(any_model)
    plan = find(by_name(), "powerinfer:0.25").plan(_calibrator(any_model, documents, given), 0.0)
    seen: dict[str, torch.Tensor] = {}
    with observe(any_model, NONE, seen.__setitem__, also=[RESIDUAL]):
        hidden_states(any_model, documents[0])
    assert given.predictors is not None
    for name, selector in plan.neurons.items():
        layer = int(name.partition(".")[0])
        first, second = given.predictors.layers[layer]
        v = seen[f"{layer}.residual"]
        scores = torch.relu(v @ first.T) @ second.T
        assert torch.equal(selector.keeps(v), scores >= 0.25)
        assert 0 < int((scores >= 0.25).sum()) < scores.numel()


def test_how_many_are_skipped_varies_by_token_and_layer(
    model: LanguageModel, documents: Documents
) -> None:
    made = _calibrator(model, documents, _given(model))
    plan = PowerInfer().plan(made, 0.5)
    assert not plan.exact
    assert len({plan.target(name) for name in plan.neurons}) == len(plan.neurons)
    selector = plan.neurons["0.down"]
    kept = selector.keeps(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(set(kept.sum(-1).tolist())) > 5
    thresholds = {s.threshold for s in plan.neurons.values() if isinstance(s, ScoredNeurons)}
    assert len(thresholds) == 1


@pytest.mark.parametrize("level", [0.25, 0.5, 0.9])
def test_the_level_is_the_mean_share_on_held_out_text(
    model: LanguageModel, documents: Documents, level: float
) -> None:
    made = _calibrator(model, documents, _given(model))
    held_out = made.learning_text()[1]
    assert [len(held_out), len(made.learning_text()[0])] == [1, 7]
    plan = PowerInfer().plan(made, level)
    shares = []
    for name, selector in plan.neurons.items():
        seen: dict[str, torch.Tensor] = {}
        with observe(model, NONE, seen.__setitem__, also=[RESIDUAL]):
            hidden_states(model, held_out[0])
        layer = name.partition(".")[0]
        shares.append(1 - float(selector.keeps(seen[f"{layer}.residual"]).double().mean()))
        assert plan.target(name) == pytest.approx(shares[-1], abs=1e-9)
    assert sum(shares) / len(shares) == pytest.approx(level, abs=0.002)


def test_level_zero_is_dense_and_one_skips_all(model: LanguageModel, documents: Documents) -> None:
    made = _calibrator(model, documents, _given(model))
    twin = model.twin()
    with sparsify(twin, PowerInfer().plan(made, 0.0)):
        assert torch.equal(hidden_states(twin, documents[0]), hidden_states(model, documents[0]))
    assert set(_skipped(model, PowerInfer().plan(made, 1.0), documents[:1]).values()) == {1.0}


def test_natural_is_the_threshold_of_the_file_or_else_zero(
    model: LanguageModel, documents: Documents
) -> None:
    natural = find(by_name(), "powerinfer:natural")
    found = []
    for given in (_given(model), _given(model, threshold=-1.5)):
        plan = natural.plan(_calibrator(model, documents, given), 0.0)
        (value,) = {s.threshold for s in plan.neurons.values() if isinstance(s, ScoredNeurons)}
        found.append(value)
    assert found == [0.0, -1.5]


def test_its_own_reads_are_taken_off(model: LanguageModel, documents: Documents) -> None:
    plan = PowerInfer().plan(_calibrator(model, documents, _given(model)), 0.5)
    assert plan.deciding_weights == 3 * 8 * (64 + 160)
    twin = model.twin()
    with sparsify(twin, plan) as attached:
        attached.counting = True
        hidden_states(twin, documents[0])
        total = sum(attached.achieved.weights.values())
        lost = attached.achieved.weighted - attached.achieved.net
    assert lost == pytest.approx(3 * 8 * (64 + 160) / total)


def test_the_prompt_is_skipped_like_the_rest_under_the_policy_none(
    model: LanguageModel, documents: Documents
) -> None:
    given = _given(model)
    for prefill, rows in ((NONE, 48), (FIRST_TOKEN_DENSE, 47)):
        plan = PowerInfer().plan(_calibrator(model, documents, given, prefill), 0.5)
        twin = model.twin()
        with sparsify(twin, plan) as attached:
            attached.counting = True
            hidden_states(twin, documents[0])
        assert {seen for _, seen in attached.achieved.counts.values()} == {rows * 160}


def test_deja_vus_rule(model: LanguageModel, documents: Documents) -> None:
    """So many per token, by second first v without an activation between."""
    given = _given(model, DEJA_VU)
    plan = DejaVu().plan(_calibrator(model, documents, given), 0.75)
    assert plan.exact
    assert set(_skipped(model, plan, documents).values()) == {0.75}
    assert given.predictors is not None
    first, second = given.predictors.layers[1]
    v = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    scores = v @ first.T @ second.T
    least = scores.topk(40, -1).values[:, -1:]
    assert torch.equal(plan.neurons["1.down"].keeps(v), scores >= least)
    assert plan.neurons["1.down"].reads == RESIDUAL


def test_scores_that_are_no_numbers_keep_their_neurons() -> None:
    predictor = LayerPredictor(torch.ones(1, 2), torch.ones(3, 1))
    selector = ScoredNeurons(0.0, predictor=predictor, skips=("down",), reads=RESIDUAL)
    assert selector.keeps(torch.tensor([[math.nan, 1.0]])).tolist() == [[True, True, True]]


def test_a_score_that_is_the_threshold_is_enough() -> None:
    """As in the engine: below it, strictly, is skipped."""
    predictor = LayerPredictor(torch.ones(1, 1), torch.tensor([[0.5], [1.0], [0.25], [0.0]]))
    selector = ScoredNeurons(0.5, predictor=predictor, skips=("down",), reads=RESIDUAL)
    assert selector.keeps(torch.tensor([[1.0]])).tolist() == [[True, True, False, False]]
    natural = ScoredNeurons(
        0.0, predictor=predictor, skips=("down",), reads=RESIDUAL
    )  # relu makes many scores exactly 0
    assert natural.keeps(torch.tensor([[-1.0]])).tolist() == [[True] * 4]


@pytest.mark.parametrize("text", ["half", "nan", "0,5"])
def test_a_threshold_that_is_no_number(text: str) -> None:
    with pytest.raises(SparsityError, match=f"method powerinfer:{text}: what stands behind"):
        find(by_name(), f"powerinfer:{text}")


@pytest.mark.parametrize(("threshold", "how"), [(-1e9, "no neuron"), (1e9, "every neuron")])
def test_a_threshold_that_skips_all_or_nothing(
    model: LanguageModel, documents: Documents, threshold: float, how: str
) -> None:
    made = _calibrator(model, documents, _given(model, threshold=threshold))
    with pytest.raises(SparsityError, match=f"powerinfer:natural: the threshold .* skips {how} of"):
        PowerInfer("natural").plan(made, 0.0)


def test_predictors_without_a_difference(model: LanguageModel, documents: Documents) -> None:
    """All scores are alike, so there is no threshold that skips a half."""
    made = _calibrator(model, documents, _given(model, scale=0.0))
    with pytest.raises(SparsityError, match=r"skips 0 % .* where 50 % was asked for"):
        PowerInfer().plan(made, 0.5)


def test_scores_that_are_not_finite(model: LanguageModel, documents: Documents) -> None:
    given = _given(model)
    assert given.predictors is not None
    given.predictors.layers[1][1][0] = math.nan
    with pytest.raises(SparsityError, match=r"scores of neurons at 1.residual are not numbers"):
        PowerInfer().plan(_calibrator(model, documents, given), 0.5)


@pytest.mark.parametrize("method", [PowerInfer(), DejaVu()], ids=lambda method: method.name)
def test_predictors_of_another_model(
    model: LanguageModel, relu_model: LanguageModel, documents: Documents, method: PowerInfer
) -> None:
    given = _given(relu_model, method.name)
    message = "'s predictors for 2 layers, and tiny-random has 3"
    with pytest.raises(SparsityError, match=message):
        method.plan(_calibrator(model, documents, given), 0.5)
    assert given.predictors is not None
    layers = {**given.predictors.layers, 2: given.predictors.layers[0]}
    wide = replace(given, predictors=replace(given.predictors, layers=layers))
    message = "a predictor for layer 0 that reads 32 values, and the MLP of tiny-random reads 64"
    with pytest.raises(SparsityError, match=message):
        method.plan(_calibrator(model, documents, wide), 0.5)


def test_each_rule_takes_its_own_predictors_only(
    model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_sparsity.methods.neurons import predicted

    monkeypatch.setattr(predicted, "fit_predictor", None)  # whoever trains fails
    made = _calibrator(model, documents, _given(model, DEJA_VU))
    DejaVu().plan(made, 0.5)
    with pytest.raises(TypeError):
        PowerInfer().plan(made, 0.5)


def test_exact_zeros_change_nothing(
    relu_model: LanguageModel, documents: Documents, calibrator: Callable[..., Calibrator]
) -> None:
    plan = ExactZeros().plan(calibrator(relu_model), 0.0)
    twin = relu_model.twin()
    with sparsify(twin, plan):
        assert torch.equal(
            hidden_states(twin, documents[0]), hidden_states(relu_model, documents[0])
        )
    found = _skipped(relu_model, plan, documents)
    assert found == pytest.approx({name: plan.target(name) for name in plan.neurons})
    assert min(found.values()) > 0.3


def test_exact_zeros_where_there_are_none(calibrator: Callable[..., Calibrator]) -> None:
    with pytest.raises(SparsityError, match="exact_zeros: the activation function of tiny-random"):
        ExactZeros().plan(calibrator(), 0.0)


@pytest.mark.parametrize("level", [0.6, 0.9])
def test_contribution_has_one_threshold_for_all_layers(
    any_model: LanguageModel,
    documents: Documents,
    calibrator: Callable[..., Calibrator],
    level: float,
) -> None:
    plan = Contribution().plan(calibrator(any_model), level)
    assert len({getattr(s, "value", None) for s in plan.neurons.values()}) == 1
    shares = [plan.target(name) for name in plan.neurons]
    assert sum(shares) / len(shares) == pytest.approx(level, abs=0.01)


def test_contribution_below_the_natural_zeros_loses_nothing(
    relu_model: LanguageModel, documents: Documents, calibrator: Callable[..., Calibrator]
) -> None:
    plan = Contribution().plan(calibrator(relu_model), 0.2)
    assert set(plan.plateau) == set(plan.neurons)
    twin = relu_model.twin()
    with sparsify(twin, plan):
        assert torch.equal(
            hidden_states(twin, documents[0]), hidden_states(relu_model, documents[0])
        )
    zeros = _skipped(relu_model, ExactZeros().plan(calibrator(relu_model), 0.0), documents)
    assert _skipped(relu_model, plan, documents) == zeros  # all of them, and nothing else
