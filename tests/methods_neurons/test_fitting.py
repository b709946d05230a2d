"""Fitted predictors: what is learnt, when it stops, and that nothing else decides about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import corpus
from pytest_sparsity.evaluation.perplexity import windows
from pytest_sparsity.methods.neurons import fitting
from pytest_sparsity.methods.neurons.fitting import FitRecipe, fit_predictor
from pytest_sparsity.methods.neurons.layer_fit import (
    LayerFit,
    Observed,
    gradients,
    needs,
    scale_of,
)
from pytest_sparsity.methods.neurons.predictor import LINEAR, RELU, Predictor
from pytest_sparsity.methods.plan import RESIDUAL
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.residual_stream import mlp_norms, norms_behind
from pytest_sparsity.models import LanguageModel, load_model, parallel

#: Rounds of two documents of 48 tokens, then four, all of them whatever is gained.
QUICK = FitRecipe(first=96, least_gain=-math.inf, passes=2, batch=32)

Documents = Sequence[torch.Tensor]


def _fit(
    model: LanguageModel, documents: Documents, recipe: FitRecipe = QUICK, held_out: int = 2
) -> Predictor:
    """Fitted to all documents but the first ``held_out``."""
    text = documents[held_out:], documents[:held_out]
    return fit_predictor(model, *text, FIRST_TOKEN_DENSE, recipe)


def _same(one: Predictor, other: Predictor) -> bool:
    return all(
        torch.equal(getattr(one.layers[n], part), getattr(other.layers[n], part))
        for n in one.layers
        for part in ("first", "second")
    )


@pytest.fixture
def seen() -> Observed:
    """Neuron j adds |v_j|, or a tenth of it: half of them depend on the input."""
    lot = torch.Generator().manual_seed(0)
    v = torch.randn(1024, 24, generator=lot) * torch.logspace(-2, 2, 24) + torch.logspace(-2, 2, 24)
    adds = torch.randn(1024, 40, generator=lot).abs()
    adds[:, :24] = (v / torch.logspace(-2, 2, 24)).clamp(min=0) ** 2
    return Observed(v, adds.to(torch.bfloat16))


def test_predictors_have_no_bias_and_read_the_residual_stream(
    relu_model: LanguageModel, documents: Documents
) -> None:
    found = _fit(relu_model, documents)
    assert found.reads == RESIDUAL
    assert found.threshold is None
    assert list(found.layers) == [0, 1]
    for layer in found.layers.values():
        assert layer.bias is None
        assert layer.between == RELU
        assert layer.first.shape[1] == 32
        assert layer.second.shape[0] == 72
        assert layer.first.dtype == layer.second.dtype == torch.float32


def test_what_is_learnt_from_is_the_stream_and_not_what_the_norm_makes_of_it(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = mlp_norms(relu_model)
    read: dict[int, torch.Tensor] = {}
    handles = [
        norm.register_forward_pre_hook(lambda _, args, layer=layer: read.update({layer: args[0]}))
        for layer, norm in norms.items()
    ]
    given: dict[int, Observed] = {}
    learn = fitting._learn

    def spy(*args: Any) -> None:
        given.update(args[3])
        learn(*args)

    monkeypatch.setattr(fitting, "_learn", spy)
    try:
        _fit(relu_model, documents[:2], held_out=1)
    finally:
        for handle in handles:
            handle.remove()
    for layer, stream in read.items():  # the last document to run is the one that is learnt
        assert torch.equal(given[layer].v, stream[0, 1:])


def test_the_rule_of_deja_vu_has_nothing_between(
    relu_model: LanguageModel, documents: Documents
) -> None:
    layer = _fit(relu_model, documents, replace(QUICK, rule="deja_vu")).layers[0]
    v = torch.randn(8, 32)
    assert layer.between == LINEAR
    torch.testing.assert_close(layer.scores(-v), -layer.scores(v))
    relu = _fit(relu_model, documents).layers[0]
    assert not torch.allclose(relu.scores(-v), -relu.scores(v))


@pytest.mark.parametrize("between", [RELU, LINEAR])
def test_gradients_are_those_of_autograd(between: str) -> None:
    lot = torch.Generator().manual_seed(0)
    v, first, second = (
        torch.randn(shape, generator=lot, dtype=torch.float64) for shape in ((9, 6), (4, 6), (7, 4))
    )
    target = torch.rand(9, 7, generator=lot, dtype=torch.float64)
    found = gradients(v, target, first, second, between, 1.25)
    first.requires_grad_()
    second.requires_grad_()
    hidden = v @ first.T
    scores = (torch.relu(hidden) if between == RELU else hidden) @ second.T - 1.25
    loss = binary_cross_entropy_with_logits(scores, target, reduction="sum") / 9
    expected = torch.autograd.grad(loss, (first, second))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-7)


def test_scores_of_folded_weights_are_those_that_were_fitted(seen: Observed) -> None:
    fit = LayerFit(0, 8, seen, QUICK)
    fit.learn(seen)
    channels = seen.v.square().mean(0).sqrt()
    first, second = fit._average
    expected = torch.relu(seen.v / channels @ first.T) @ second.T
    torch.testing.assert_close(fit.predictor().scores(seen.v), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [2.0**-12, 2.0**12])
def test_the_scale_of_the_model_does_not_matter(seen: Observed, factor: float) -> None:
    scaled = Observed(factor * seen.v, factor * seen.adds)
    one, other = LayerFit(0, 8, seen, QUICK), LayerFit(0, 8, scaled, QUICK)
    one.learn(seen)
    other.learn(scaled)
    scores = one.predictor().scores(seen.v), other.predictor().scores(scaled.v)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


def test_what_is_stored_is_far_from_the_ends_of_float16(seen: Observed) -> None:
    large = Observed(2.0**30 * seen.v, seen.adds)
    layer = LayerFit(0, 8, large, QUICK).predictor()
    assert 0.25 <= layer.first.abs().max() / layer.second.abs().max() <= 4


def test_the_need_is_relative_to_stream_and_output() -> None:
    v, adds = torch.full((3, 4), 2.0), torch.full((3, 9), 1.0, dtype=torch.bfloat16)
    # Energies of 16 and 9, over nine neurons.
    assert scale_of(Observed(v, adds)) == pytest.approx(12 / 9)
    assert needs(adds, 12 / 9)[0, 0] == pytest.approx(0.75)
    v[0] = 1e6  # one token of a sink
    assert scale_of(Observed(v, adds)) == pytest.approx(12 / 9)


def test_neurons_that_never_add_anything_are_no_trouble() -> None:
    v = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    v[:, 0] = 0  # a dead channel
    silent = Observed(v, torch.zeros(64, 6, dtype=torch.bfloat16))
    fit = LayerFit(0, 2, silent, QUICK)
    fit.learn(silent)
    scores = fit.predictor().scores(v)
    assert bool(torch.isfinite(scores).all())
    assert float(scores.mean()) < 0


def test_a_score_of_zero_is_the_need_that_the_recipe_says() -> None:
    # Every neuron adds the same on all tokens, with needs on both sides of ``zero``.
    v = torch.randn(512, 8, generator=torch.Generator().manual_seed(0)) + 3
    adds = torch.logspace(-2, 1, 16).expand(512, 16).to(torch.bfloat16)
    seen = Observed(v, adds)
    fit = LayerFit(0, 4, seen, replace(QUICK, passes=40))
    fit.learn(seen)
    clear = (needs(adds[0], fit.scale) / QUICK.zero).log().abs() > 1.5
    below = fit.predictor().scores(v).mean(0) < 0
    assert torch.equal(below[clear], (needs(adds[0], fit.scale) < QUICK.zero)[clear])
    assert 0 < int(below[clear].sum()) < int(clear.sum())


def test_fitting_starts_from_how_much_each_neuron_is_needed_on_average(seen: Observed) -> None:
    fit = LayerFit(0, 8, seen, QUICK)
    often = fit.target(seen.adds).mean(0)
    expected = torch.logit(often) + math.log(QUICK.cap / QUICK.zero)
    assert float((fit.predictor().scores(seen.v.mean(0)) - expected).abs().max()) < 1


def test_fitting_repeats_itself_whatever_the_threads(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    one = _fit(relu_model, documents)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        other = _fit(relu_model, documents)
    finally:
        torch.set_num_threads(before)
    assert _same(one, other)
    told = [{k: v for k, v in p.provenance.items() if k != "seconds"} for p in (one, other)]
    assert told[0] == told[1]
    assert not _same(one, _fit(relu_model, documents, replace(QUICK, seed=1)))


def test_memory_bounds_how_much_text_is_learnt_at_a_time(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    joined = fitting._Observer.joined

    def spy(self: fitting._Observer, text: Documents, name: str) -> dict[int, Observed]:
        pieces.append(len(text))
        return joined(self, text, name)

    monkeypatch.setattr(fitting._Observer, "joined", spy)
    _fit(relu_model, documents, held_out=1)
    assert pieces == [1, 2, 2, 2, 1]  # held out, a round of two, one of two, the rest in two
    pieces.clear()
    # A token's stream is 32 float32 and its neurons 72 bfloat16, in two layers.
    monkeypatch.setattr(fitting, "_BYTES", 2 * 48 * 2 * (32 * 4 + 72 * 2) - 1)
    _fit(relu_model, documents, held_out=1)
    assert pieces == [1, 1, 1, 1, 1, 1, 1, 1]


def test_text_doubles_until_there_is_no_more(
    relu_model: LanguageModel, documents: Documents
) -> None:
    told = _fit(relu_model, documents, held_out=1).provenance
    assert told["stopped"] == "text"
    assert [tokens for tokens, _ in told["curve"]] == [96, 192, 336]
    assert told["tokens"] == 8 * 48
    assert told["training_tokens"] == 7 * 47
    assert told["seconds"] >= 0


def test_the_budget_is_not_exceeded(relu_model: LanguageModel, documents: Documents) -> None:
    told = _fit(relu_model, documents, replace(QUICK, tokens=200)).provenance
    assert told["stopped"] == "budget"
    assert [tokens for tokens, _ in told["curve"]] == [96, 192]


def test_fitting_stops_where_recall_no_longer_rises(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalls = iter([0.5, 0.52, 0.525, 0.9])
    monkeypatch.setattr(fitting, "_recall", lambda *args: next(recalls))
    told = _fit(relu_model, documents, replace(QUICK, first=48, least_gain=0.01)).provenance
    assert told["stopped"] == "recall"
    assert told["curve"] == [[48, 0.5], [96, 0.52], [192, 0.525]]


def test_the_best_round_is_what_is_returned(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = _fit(relu_model, documents, replace(QUICK, tokens=96))
    recalls = iter([0.6, 0.5, 0.4])
    monkeypatch.setattr(fitting, "_recall", lambda *args: next(recalls))
    assert _same(_fit(relu_model, documents), short)
    recalls = iter([0.5, 0.6])
    monkeypatch.setattr(fitting, "_recall", lambda *args: next(recalls))
    assert not _same(_fit(relu_model, documents, replace(QUICK, tokens=192)), short)


def test_recall_is_the_share_of_the_need_that_is_kept(
    relu_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two layers of one token and four neurons, three of the eight active; adds are the needs.
    # No number of bfloat16 is between 1 and the next score, which is not kept.
    adds = {0: [3.0, 2.0, 1.0, 0.0], 1: [0.0, 0.0, 0.0, 0.0]}
    scores = {0: [5.0, 0.99609375, 1.0, -3.0], 1: [4.0, -2.0, -4.0, -0.5]}
    seen = {
        n: Observed(torch.zeros(1, 2), torch.tensor([row]).bfloat16()) for n, row in adds.items()
    }

    class Fake:
        def __init__(self, number: int) -> None:
            self.number = number

        def target(self, adds: torch.Tensor) -> torch.Tensor:
            return adds.float()

        def scores(self, v: torch.Tensor) -> torch.Tensor:
            return torch.tensor([scores[self.number]])

    fakes = {n: Fake(n) for n in adds}
    # Kept: 5 and 1 of layer 0, 4 of layer 1, which needs nothing.
    found = fitting._recall(relu_model, seen, fakes, fakes)  # type: ignore[arg-type]
    assert found == pytest.approx((4 / 6 + 1) / 2)


def test_the_order_of_scores_survives_being_counted() -> None:
    values = torch.tensor([-math.inf, -100.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 100.0, math.inf])
    places = fitting._order(values)
    assert bool((places.diff() > 0).all())
    assert int(places.min()) >= 0
    assert int(places.max()) < fitting._BUCKETS


@pytest.mark.parametrize("rule", ["powerinfer", "deja_vu"])
def test_a_layer_learns_what_depends_on_its_input(seen: Observed, rule: str) -> None:
    fit = LayerFit(0, 24, seen, replace(QUICK, rule=rule, passes=40))
    needed = fit.target(seen.adds)[:, :24]
    start = fit.predictor().scores(seen.v)[:, :24]
    fit.learn(seen)
    scores = fit.predictor().scores(seen.v)[:, :24]

    def recall(found: torch.Tensor) -> float:
        best = found.topk(6, -1).indices
        return float(needed.gather(-1, best).sum() / needed.topk(6, -1).values.sum())

    assert recall(start) < 0.5
    assert recall(scores) > 0.9


@pytest.mark.slow
def test_predictors_of_a_relu_model_find_its_active_neurons() -> None:
    model = load_model("relu-4m")
    text = windows(corpus("austen", "calibration").documents, model, 256)[:40]
    found = _fit(model, [w.tokens for w in text], FitRecipe(first=4096), held_out=8)
    (_, before), (tokens, after) = found.provenance["curve"]
    assert tokens == 8192
    assert after > 0.8 > before + 0.02


@pytest.mark.parametrize("name", ["model", "relu_model", "opt_model"])
def test_most_models_have_no_norm_behind_the_mlp(name: str, request: pytest.FixtureRequest) -> None:
    assert norms_behind(request.getfixturevalue(name)) == {}


def test_what_neurons_add_is_what_reaches_the_stream(
    gemma_model: LanguageModel, documents: Documents
) -> None:
    """Down a thousand times as large is the same model where a norm stands behind it."""
    layers = gemma_model.decoder.layers
    assert norms_behind(gemma_model) == {
        number: layer.post_feedforward_layernorm for number, layer in enumerate(layers)
    }

    def observed() -> dict[int, Observed]:
        return fitting._Observer(gemma_model, FIRST_TOKEN_DENSE).joined(documents[:2], "text")

    layers[1].mlp.down_proj.weight.mul_(1024)  # nothing of eps is left
    before = observed()
    layers[1].mlp.down_proj.weight.mul_(1024)
    after = observed()
    for layer, one in before.items():
        assert float(one.adds.float().mean()) > 0
        torch.testing.assert_close(after[layer].adds, one.adds, rtol=0.02, atol=0)


def test_the_gain_of_a_norm() -> None:
    down, norm = torch.nn.Linear(3, 2, bias=False), torch.nn.RMSNorm(2, eps=0.0)
    down.weight.data = torch.tensor([[3.0, 0.0, 0.0], [4.0, 0.0, 1.0]])
    h = torch.tensor([[1.0, 7.0, 0.0], [0.0, 7.0, 0.0]])  # outputs (3, 4) and (0, 0)
    assert fitting.gain(h, down, norm).tolist() == [[pytest.approx(2**0.5 / 5)], [0.0]]


@pytest.mark.parametrize("name", ["model", "opt_model", "gemma_model"])
def test_other_models_are_fitted_too(
    name: str, documents: Documents, request: pytest.FixtureRequest
) -> None:
    found = _fit(request.getfixturevalue(name), documents)
    assert all(0 < recall <= 1 for _, recall in found.provenance["curve"])


def test_too_little_text(relu_model: LanguageModel, documents: Documents) -> None:
    with pytest.raises(SparsityError, match="0 documents to train predictors of neurons on"):
        _fit(relu_model, documents[:2])
    with pytest.raises(SparsityError, match=r"and 0 to check them are too little; give a longer"):
        _fit(relu_model, documents, held_out=0)
    with pytest.raises(SparsityError, match=r"6 documents .* 0 of them within 47 tokens"):
        _fit(relu_model, documents, replace(QUICK, tokens=47))


def test_a_policy_that_keeps_everything_dense(
    relu_model: LanguageModel, documents: Documents
) -> None:
    policy = PrefillPolicy("first:48")
    with pytest.raises(SparsityError, match="keeps every token of the held-out text dense"):
        fit_predictor(relu_model, documents[2:], documents[:2], policy, QUICK)
    long = torch.cat([documents[0], documents[1]])
    with pytest.raises(SparsityError, match="keeps every token of the training text dense"):
        fit_predictor(relu_model, documents[2:], [long], policy, QUICK)


def test_a_model_without_neurons(relu_model: LanguageModel, documents: Documents) -> None:
    without = replace(
        relu_model, sites=tuple(site for site in relu_model.sites if site.kind != "down")
    )
    with pytest.raises(SparsityError, match="has no site of the kind 'down'"):
        _fit(without, documents)


def test_activations_that_are_not_finite(
    relu_model: LanguageModel, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(h: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        return torch.full_like(h, math.nan)

    monkeypatch.setattr(fitting, "contribution", broken)
    with pytest.raises(SparsityError, match="layer 0 contain NaN or infinity on the held-out text"):
        _fit(relu_model, documents)
