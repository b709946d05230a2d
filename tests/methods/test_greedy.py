from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.methods import greedy
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.greedy import SearchStep, at_level, block_level, output_error, search
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.teal_greedy import TealGreedy
from pytest_sparsity.models.forward import hidden_states

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    torch.randint(0, 256, (48,), generator=torch.Generator().manual_seed(seed)) for seed in range(4)
]
METHOD = TealGreedy(sequences=2, length=24, step=0.04)


def calibrator(model: Any, cache: Path | None = None, policy: str = "first:1") -> Calibrator:
    return Calibrator(model, TEXTS, PrefillPolicy(policy), cache)


def weights_of(model: Any) -> dict[str, int]:
    """By hand, from the shapes."""
    return {s.name: s.module.in_features * s.module.out_features for s in model.sites}


def block_output(model: Any, layer: int, tokens: torch.Tensor) -> torch.Tensor:
    """What a decoder block of a Llama gives, [T, H]."""
    seen: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output)[0])

    handle = model.model.model.layers[layer].register_forward_hook(keep)
    hidden_states(model, tokens)
    handle.remove()
    return seen[0]


def error_of(model: Any, layer: int, levels: dict[str, float], made: Calibrator) -> float:
    """The error of one block on dense inputs, by attaching its thresholds alone."""
    quantiles = made.distributions()
    selectors = {s: Threshold(quantiles[s].quantile(p)) for s, p in levels.items()}
    sequences = [TEXTS[0][:24], TEXTS[2][:24]]
    target = torch.stack([block_output(model, layer, t) for t in sequences])
    with sparsify(model, Plan("x", 0.5, selectors, made.prefill)):
        output = torch.stack([block_output(model, layer, t) for t in sequences])
    return float((target - output)[:, 1:].norm(dim=1).mean())


def test_the_error_is_the_norm_over_tokens() -> None:
    target = torch.zeros(1, 3, 2)
    output = torch.tensor([[[9.0, 9.0], [3.0, 0.0], [4.0, 1.0]]])
    sparse = torch.tensor([[[False], [True], [True]]])
    assert output_error(target, output, sparse) == pytest.approx((5 + 1) / 2)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_every_step_is_the_best_one(family: str, small_model: Any) -> None:
    """Replays Algorithm 1 with plans that are attached, without the search's short cuts."""
    model = small_model(family)
    made = calibrator(model)
    found = METHOD._search(made, 0.3)
    weights = weights_of(model)
    for layer in (0, 2):
        trail = found.trails[layer]
        total = sum(weights[site] for site in trail[0].levels)
        assert set(trail[0].levels.values()) == {0.0}
        for before, row in itertools.pairwise(trail[:4]):
            errors = {}
            for site, level in before.levels.items():
                stepped = min(1.0, level + 0.04 * total / weights[site])
                errors[site] = error_of(model, layer, {**before.levels, site: stepped}, made)
            moved = [s for s, p in row.levels.items() if p != before.levels[s]]
            assert moved == [min(errors, key=errors.__getitem__)]
            assert row.error == pytest.approx(min(errors.values()), rel=1e-3)


def test_steps_have_the_weights_true_shapes(small_model: Any) -> None:
    """The published table has k and v at 1/8 of q for models where they are 1 or 1/4."""
    model = small_model("llama")
    weights = weights_of(model)
    assert weights["0.k"] * 2 == weights["0.q"]  # 2 heads share one key
    trail = METHOD._search(calibrator(model), 0.5).trails[1]
    for before, row in itertools.pairwise(trail):
        if 1.0 not in row.levels.values():
            gained = block_level(row.levels, weights) - block_level(before.levels, weights)
            assert gained == pytest.approx(0.04)
    half = {site: 0.5 if site == "1.q" else 0.0 for site in trail[0].levels}
    total = sum(n for site, n in weights.items() if site.startswith("1."))
    assert block_level(half, weights) == pytest.approx(0.5 * weights["1.q"] / total)


def test_no_site_loses_more_than_all_it_has(tiny: Any) -> None:
    """In the published code 0.4 + 0.4 + 0.4 = 1.2 is possible, and counts as 1.2."""
    for trail in TealGreedy(2, 12, 0.1)._search(calibrator(tiny), 1.0).trails.values():
        assert all(0 <= p <= 1 for row in trail for p in row.levels.values())
        assert set(trail[-1].levels.values()) == {1.0}
        for before, row in itertools.pairwise(trail):
            assert all(row.levels[s] >= p for s, p in before.levels.items())


def test_the_last_step_is_cut_to_the_level() -> None:
    weights = {"0.q": 100, "0.k": 50}
    trail = [
        SearchStep({"0.q": 0.0, "0.k": 0.0}, 0.0),
        SearchStep({"0.q": 0.0, "0.k": 0.6}, 1.0),
        SearchStep({"0.q": 0.3, "0.k": 0.6}, 2.0),
    ]
    assert at_level(trail, weights, 0.0) == trail[0].levels
    assert at_level(trail, weights, 0.2) == trail[1].levels
    assert at_level(trail, weights, 0.4) == trail[2].levels
    assert at_level(trail, weights, 0.4 + 1e-12) == trail[2].levels
    assert at_level(trail, weights, 0.3) == pytest.approx({"0.q": 0.15, "0.k": 0.6})
    for level in (0.05, 0.2, 0.25, 0.399):
        assert block_level(at_level(trail, weights, level), weights) == pytest.approx(level)
    with pytest.raises(ValueError, match=r"the search ended at 0\.400, before 0\.5"):
        at_level(trail, weights, 0.5)


@pytest.mark.parametrize("level", [0.25, 0.5])
def test_blocks_lose_their_level_and_less_than_uniform_ones(tiny: Any, level: float) -> None:
    made = calibrator(tiny)
    plan = METHOD.plan(made, level)
    weights = weights_of(tiny)
    quantiles = made.distributions()
    for layer in range(3):
        mine = {site.name for site in tiny.sites if site.layer == layer}
        levels = {site: p for site, p in plan.targets.items() if site in mine}
        assert block_level(levels, weights) == pytest.approx(level)
        uniform = error_of(tiny, layer, dict.fromkeys(mine, level), made)
        assert error_of(tiny, layer, levels, made) <= uniform
        for site in mine:
            assert plan.selectors[site] == Threshold(quantiles[site].quantile(levels[site]))
    assert len({round(p, 6) for p in plan.targets.values()}) > 3
    with sparsify(tiny, plan) as attached:
        attached.counting = True
        for text in TEXTS:
            hidden_states(tiny, text)
    assert attached.achieved.weighted == pytest.approx(level, abs=0.05)


def test_layers_get_their_own_levels_in_natural_order(small_model: Any) -> None:
    model = small_model("llama", num_hidden_layers=12)
    made = calibrator(model)
    found = METHOD._search(made, 0.1).trails
    assert list(found) == list(range(12))
    assert all(site.startswith(f"{n}.") for n, trail in found.items() for site in trail[0].levels)
    row = found[10][-1]
    assert row.error == pytest.approx(error_of(model, 10, dict(row.levels), made), rel=1e-3)


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "gpt2"])
def test_other_blocks_are_searched(family: str, small_model: Any) -> None:
    """OPT gives its MLP the tokens of all sequences as rows."""
    model = small_model(family)
    targets = METHOD.plan(calibrator(model), 0.2).targets
    weights = weights_of(model)
    for layer in range(3):
        levels = {site: p for site, p in targets.items() if site.startswith(f"{layer}.")}
        assert block_level(levels, weights) == pytest.approx(0.2)


def test_a_search_goes_on_where_it_ended(tiny: Any, tmp_path: Path) -> None:
    at_once = METHOD.plan(calibrator(tiny), 0.5)
    first = METHOD.plan(calibrator(tiny, tmp_path), 0.25)
    made = calibrator(tiny, tmp_path)
    second = METHOD.plan(made, 0.5)
    assert second.selectors == at_once.selectors
    assert second.targets == at_once.targets
    assert METHOD.plan(calibrator(tiny, tmp_path), 0.25).selectors == first.selectors
    assert first.cost["tokens"] == 48
    assert second.cost["tokens"] == 96
    assert second.cost["seconds"] >= first.cost["seconds"] > 0


def test_what_was_found_is_not_searched_again(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache in (None, tmp_path):
        made = calibrator(tiny, cache)
        plan = METHOD.plan(made, 0.3)
        with monkeypatch.context() as patch:
            patch.setattr(greedy, "search", lambda *_, **__: pytest.fail("searched again"))
            assert METHOD.plan(made, 0.3).targets == plan.targets
            assert METHOD.plan(made, 0.2).targets != plan.targets
            if cache is not None:
                assert METHOD.plan(calibrator(tiny, cache), 0.3).targets == plan.targets
                with pytest.raises(pytest.fail.Exception):
                    TealGreedy(2, 24, 0.05).plan(made, 0.3)


@pytest.mark.parametrize(
    "damage", [lambda c: {**c, "derived": {}}, lambda c: {**c, "schema": 0}, lambda c: []]
)
def test_a_damaged_search_is_made_again(tiny: Any, tmp_path: Path, damage: Any) -> None:
    plan = METHOD.plan(calibrator(tiny, tmp_path), 0.1)
    (path,) = tmp_path.rglob("teal_greedy-*.json")
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.warns(SparsityWarning, match="is damaged or of another version: made again"):
        assert METHOD.plan(calibrator(tiny, tmp_path), 0.1).targets == plan.targets


def test_the_model_is_left_as_it_was(tiny: Any) -> None:
    before = [dict(vars(site.module)) for site in tiny.sites]
    dense = hidden_states(tiny, TEXTS[0])
    METHOD.plan(calibrator(tiny), 0.1)
    assert [dict(vars(site.module)) for site in tiny.sites] == before
    assert torch.equal(hidden_states(tiny, TEXTS[0]), dense)


def test_a_policy_that_leaves_nothing_is_one_clear_sentence(tiny: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        METHOD.plan(calibrator(tiny, policy="first:24"), 0.1)
    assert str(caught.value) == (
        "--sparsity-prefill first:24 keeps every token of the sequences of the greedy search "
        "dense; use a smaller number, or none"
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_the_search_does_not_depend_on_the_number_of_workers(
    tiny: Any, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_sparsity.models import parallel

    made = calibrator(tiny)
    given = (tiny, torch.stack(TEXTS)[:, :20], FIRST_TOKEN_DENSE, made.distributions(), {})
    expected = search(*given, until=0.2, step=0.04)
    monkeypatch.setattr(parallel, "cores", lambda: workers)
    assert search(*given, until=0.2, step=0.04) == expected
