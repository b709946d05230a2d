from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.activity import calibrated_counts
from pytest_sparsity.methods.neurons.cold_skip import RECALLS, ColdSkip, ColdSkipOracle
from pytest_sparsity.methods.neurons.fixed import ColdOnly, HotOnly, RandomNeurons
from pytest_sparsity.methods.neurons.quality import selection_quality
from pytest_sparsity.methods.neurons.selectors import FixedNeurons
from pytest_sparsity.methods.neurons.training import PredictorRecipe
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.registry import by_name, find, wants_of
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.divergence import kl
from pytest_sparsity.models.forward import hidden_states, log_softmax, logits

Calibrators = Callable[..., Calibrator]
NO_DENSE = PrefillPolicy("none")
QUICK = PredictorRecipe(epochs=20, batch=32)
FOUR: tuple[Any, ...] = (HotOnly(), ColdOnly(), RandomNeurons(), ColdSkipOracle())
SCOPED: tuple[Any, ...] = (
    HotOnly("model"),
    HotOnly("capacity"),
    ColdOnly("model"),
    ColdOnly("capacity"),
    RandomNeurons(scope="model"),
)
MODELS = ["model", "relu_model", "opt_model"]


@pytest.fixture(params=MODELS)
def any_model(request: pytest.FixtureRequest) -> LanguageModel:
    found: LanguageModel = request.getfixturevalue(request.param)
    return found


def _masks(plan: Plan) -> Mapping[str, torch.Tensor]:
    masks = {}
    for name, selector in plan.neurons.items():
        assert isinstance(selector, FixedNeurons)
        masks[name] = selector.mask
    return masks


def _divergence(model: LanguageModel, plan: Plan, tokens: torch.Tensor) -> float:
    dense = log_softmax(logits(model, hidden_states(model, tokens)))
    twin = model.twin()
    with sparsify(twin, plan):
        sparse = log_softmax(logits(twin, hidden_states(twin, tokens)))
    return float(kl(dense, sparse).mean())


def test_all_are_known_by_name() -> None:
    names = {"cold_skip", "cold_skip_oracle", "hot_only", "cold_only", "random_neurons"}
    names |= {f"cold_skip_recall_{percent}" for percent in (99, 95, 90)}
    assert names <= set(by_name())
    assert wants_of(RandomNeurons()) == ()
    assert wants_of(HotOnly())[0] == "neuron_activations"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 1.0])
def test_hot_and_cold_together_are_the_whole_block(
    any_model: LanguageModel, calibrator: Calibrators, level: float, dtype: torch.dtype
) -> None:
    hot = _masks(HotOnly().plan(calibrator(any_model), level))
    cold = _masks(ColdOnly().plan(calibrator(any_model), 1 - level))
    lot = torch.Generator().manual_seed(0)
    for site in any_model.sites:
        if site.kind != "down":
            continue
        assert torch.equal(hot[site.name], ~cold[site.name])  # a partition
        h = torch.randn(4, site.module.in_features, generator=lot).to(dtype)
        weight = site.module.weight.to(dtype)
        parts = [torch.where(mask[site.name], h, 0.0) @ weight.T for mask in (hot, cold)]
        together, dense = parts[0] + parts[1], h @ weight.T
        # Three products of I terms each, and four results that are rounded once: the bound of
        # reference/precision.py, c = 4, accumulated in float32 or better.
        u_out = torch.finfo(dtype).eps / 2
        u_sum = min(u_out, torch.finfo(torch.float32).eps / 2)
        size = h.double().abs() @ weight.double().abs().T
        bound = 4 * u_out * size + 4 * (h.shape[-1] + 1) ** 0.5 * u_sum * size
        assert bool(((together.double() - dense.double()).abs() <= bound).all())
        if dtype == torch.float64:
            torch.testing.assert_close(together, dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", FOUR, ids=lambda method: method.name)
@pytest.mark.parametrize("level", [0.25, 0.5, 0.9])
def test_the_experiments_keep_the_same_number(
    any_model: LanguageModel,
    calibrator: Calibrators,
    documents: list[torch.Tensor],
    method: Any,
    level: float,
) -> None:
    plan = method.plan(calibrator(any_model), level)
    twin = any_model.twin()
    with sparsify(twin, plan) as attached:
        attached.counting = True
        hidden_states(twin, documents[0])
    kinds = {site.kind for site in any_model.sites} & {"gate", "up", "down"}
    assert {name.partition(".")[2] for name in attached.achieved.counts} == kinds
    for name, (dropped, seen) in attached.achieved.counts.items():
        layer = name.partition(".")[0]
        assert dropped / seen == plan.target(f"{layer}.down")
    assert plan.exact


@pytest.mark.parametrize("method", SCOPED, ids=lambda method: method.name)
def test_sets_of_the_whole_model_keep_the_mean_share(
    any_model: LanguageModel, calibrator: Calibrators, method: Any
) -> None:
    plan = method.plan(calibrator(any_model), 0.5)
    masks = list(_masks(plan).values())
    whole = torch.cat(masks)
    kept, total = int(whole.sum()), len(whole)
    if "capacity" not in method.name:
        assert kept == total - total // 2
    elif "hot" in method.name:  # whole blocks only, and here a layer is one
        assert kept % len(masks[0]) == 0
        assert kept <= total - total // 2
    for name, mask in _masks(plan).items():
        assert plan.target(name) == 1 - int(mask.sum()) / len(mask)


def test_the_hottest_of_the_whole_model_are_hotter_than_all_others(
    model: LanguageModel, calibrator: Calibrators
) -> None:
    made = calibrator()
    whole = calibrated_counts(made).whole
    hot = torch.cat(list(_masks(HotOnly("model").plan(made, 0.75)).values()))
    cold = torch.cat(list(_masks(ColdOnly("model").plan(made, 0.25)).values()))
    assert int(whole[hot].min()) >= int(whole[~hot].max())
    assert torch.equal(hot, ~cold)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hot_only:layers", "hot_only:layers: what stands behind the colon is model, capacity or"),
        ("random_neurons:natural", "random_neurons:natural: what stands behind the colon is model"),
        ("hot_only:", "'hot_only:' is unknown; known are dense, teal"),
        ("topk:model", "'topk:model' is unknown"),
        ("teal:model", "teal:model: what stands behind the colon is experts"),
    ],
)
def test_a_scope_that_there_is_not(name: str, message: str) -> None:
    with pytest.raises(SparsityError, match=message):
        find(by_name(), name)


def test_a_hot_set_that_is_not_given(calibrator: Calibrators) -> None:
    with pytest.raises(SparsityError, match=r"name a \*.gpuidx with --sparsity-predictors"):
        find(by_name(), "hot_only:natural").plan(calibrator(), 0.0)


@pytest.mark.parametrize("method", FOUR, ids=lambda method: method.name)
def test_level_zero_is_dense_bit_by_bit(
    any_model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor], method: Any
) -> None:
    twin = any_model.twin()
    with sparsify(twin, method.plan(calibrator(any_model), 0.0)):
        sparse = hidden_states(twin, documents[0])
    assert torch.equal(sparse, hidden_states(any_model, documents[0]))


def test_the_hot_are_the_often_active(calibrator: Calibrators, model: LanguageModel) -> None:
    made = calibrator()
    counts = calibrated_counts(made).counts
    for name, mask in _masks(HotOnly().plan(made, 0.75)).items():
        own = counts[int(name.partition(".")[0])]
        assert int(own[mask].min()) >= int(own[~mask].max())
        assert int(mask.sum()) == 40


def test_random_neurons_are_nested_and_seeded(calibrator: Calibrators) -> None:
    made = calibrator()
    half, most = (_masks(RandomNeurons().plan(made, level)) for level in (0.5, 0.25))
    again, other = (_masks(RandomNeurons(seed).plan(made, 0.5)) for seed in (0, 1))
    for name in half:
        assert bool((half[name] <= most[name]).all())
        assert torch.equal(half[name], again[name])
        assert not torch.equal(half[name], other[name])
    assert not torch.equal(half["0.down"], half["1.down"])
    assert RandomNeurons(1).parameters != RandomNeurons().parameters


@pytest.mark.parametrize("which", ["relu_model", "opt_model"])
def test_skipping_exact_zeros_changes_nothing(
    which: str,
    calibrator: Calibrators,
    documents: list[torch.Tensor],
    request: pytest.FixtureRequest,
) -> None:
    model = request.getfixturevalue(which)
    twin = model.twin()
    with sparsify(twin, ColdSkipOracle().plan(calibrator(model), 0.2)):
        sparse = hidden_states(twin, documents[0])
    assert torch.equal(sparse, hidden_states(model, documents[0]))


def test_without_exact_zeros_skipping_is_not_lossless(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    assert _divergence(model, ColdSkipOracle().plan(calibrator(), 0.2), documents[0]) > 0


def test_cold_only_harms_more_than_random_and_that_more_than_hot_only(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    made = calibrator()
    hot, random, cold = (
        sum(_divergence(model, method.plan(made, 0.5), tokens) for tokens in documents)
        for method in (HotOnly(), RandomNeurons(), ColdOnly())
    )
    assert cold > random > hot


def test_accuracy_falls_with_recall(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    made = calibrator()
    harm = [
        sum(_divergence(model, ColdSkipOracle(r).plan(made, 0.5), t) for t in documents)
        for r in (1.0, *RECALLS)
    ]
    assert harm == sorted(harm)
    assert harm[-1] > 2 * harm[0]


@pytest.mark.parametrize("recall", [1.0, *RECALLS])
def test_recall_is_what_was_asked_for(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor], recall: float
) -> None:
    plan = ColdSkipOracle(recall).plan(calibrator(), 0.5)
    (found,) = selection_quality(model, [plan], documents)
    assert found.recall == pytest.approx([recall] * 3, abs=0.01)
    assert found.precision == pytest.approx(found.recall)
    assert found.tokens == 8 * 47


def test_what_is_missed_depends_on_the_values_only(
    model: LanguageModel, calibrator: Calibrators
) -> None:
    selector = ColdSkipOracle(0.9).plan(calibrator(), 0.5).neurons["0.down"]
    h = torch.randn(6, 160, generator=torch.Generator().manual_seed(0))
    whole = selector.keeps(h)
    assert torch.equal(whole[3:], selector.keeps(h[3:]))
    other = ColdSkipOracle(0.9, seed=1).plan(calibrator(), 0.5).neurons["0.down"]
    assert not torch.equal(whole, other.keeps(h))


def test_what_is_kept_instead_is_drawn_evenly(calibrator: Calibrators) -> None:
    made = calibrator()
    best, found = (ColdSkipOracle(r).plan(made, 0.5).neurons["0.down"] for r in (1.0, 0.5))
    h = torch.randn(400, 160, generator=torch.Generator().manual_seed(0))
    instead = found.keeps(h) & ~best.keeps(h)
    assert bool((found.keeps(h).sum(-1) == 80).all())
    parts = instead.sum(0).view(4, 40).sum(-1) / instead.sum()
    assert parts.tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_what_was_injected_is_in_the_key() -> None:
    keys = [method.parameters for method in (ColdSkipOracle(), ColdSkipOracle(0.9))]
    assert set(keys[1]) == {*keys[0], "recall", "seed"}
    assert keys[1]["recall"] == 0.9


def test_zeros_are_not_worth_keeping(
    relu_model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    made = calibrator(relu_model)
    share = calibrated_counts(made).counts[0].sum() / (8 * 47 * 72)
    (found,) = selection_quality(relu_model, [ColdSkipOracle().plan(made, 0.125)], documents)
    assert found.recall == (1.0, 1.0)
    assert found.error == (0.0, 0.0)
    assert found.precision[0] == pytest.approx(float(share) / 0.875)


def test_a_recall_out_of_range() -> None:
    with pytest.raises(ValueError, match="recall"):
        ColdSkipOracle(0.0)


def test_a_level_out_of_range(calibrator: Calibrators) -> None:
    with pytest.raises(SparsityError, match=r"hot_only: the level must be in \[0, 1\], not 1.5"):
        HotOnly().plan(calibrator(), 1.5)


def test_the_predictor_is_better_than_any_fixed_set(
    any_model: LanguageModel, calibrator: Calibrators
) -> None:
    made = calibrator(any_model, NO_DENSE)
    lot = torch.Generator().manual_seed(2)
    held_out = [torch.randint(0, 256, (48,), generator=lot) for _ in range(4)]
    plan = ColdSkip(QUICK).plan(made, 0.5)
    plans = [plan, HotOnly().plan(made, 0.5), RandomNeurons().plan(made, 0.5)]
    predicted, hot, lots = selection_quality(any_model, plans, held_out)
    assert [predicted] == selection_quality(any_model, [plan], held_out)
    assert predicted.mean_recall > hot.mean_recall > lots.mean_recall
    assert plan.cost["tokens"] == 8 * 48
    assert plan.cost["seconds"] > 0


def test_the_predictor_keeps_exact_numbers(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    plan = ColdSkip(QUICK).plan(calibrator(), 0.5)
    twin = model.twin()
    with sparsify(twin, plan) as attached:
        attached.counting = True
        hidden_states(twin, documents[0])
    assert {dropped / seen for dropped, seen in attached.achieved.counts.values()} == {0.5}


def test_plans_are_compared_in_one_pass_at_the_same_positions_only(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    plans = [HotOnly().plan(calibrator(prefill=p), 0.5) for p in (FIRST_TOKEN_DENSE, NO_DENSE)]
    with pytest.raises(ValueError, match="one prefill policy"):
        selection_quality(model, plans, documents)


def test_quality_is_of_choices_of_neurons_only(
    model: LanguageModel, calibrator: Calibrators, documents: list[torch.Tensor]
) -> None:
    teal = by_name()["teal"].plan(calibrator(), 0.5)
    with pytest.raises(ValueError, match="teal does not choose neurons"):
        selection_quality(model, [teal], documents)
