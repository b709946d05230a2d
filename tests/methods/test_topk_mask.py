from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.nm import LargestOfGroup
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE
from pytest_sparsity.methods.reads import Kept, observe_kept
from pytest_sparsity.methods.registry import by_name
from pytest_sparsity.methods.topk import Largest
from pytest_sparsity.methods.topk_mask import dropped_count, keep_largest, kept
from pytest_sparsity.methods.wina import LargestWeighted
from pytest_sparsity.models.forward import hidden_states

TEXT = torch.randint(0, 256, (40,), generator=torch.Generator().manual_seed(3))


def calibrator(model: Any) -> Calibrator:
    return Calibrator(model, [TEXT], FIRST_TOKEN_DENSE)


@pytest.mark.parametrize(
    ("level", "width", "dropped"),
    [
        (0.9, 10, 9),  # int(10 * (1 - 0.9)) keeps 0 of them
        (0.7, 10, 7),
        (0.1, 10, 1),
        (0.55, 100, 55),
        (0.5, 5, 3),  # halves up
        (0.25, 576, 144),
        (1 / 3, 576, 192),
        (0.0, 7, 0),
        (1.0, 7, 7),
        (1, 7, 7),
        (0.01, 7, 0),
    ],
)
def test_counts_have_no_floating_point_surprise(level: float, width: int, dropped: int) -> None:
    assert dropped_count(level, width) == dropped


def test_counts_are_the_nearest_at_every_percent() -> None:
    for percent in range(101):
        for width in (1, 7, 10, 64, 576):
            found = dropped_count(percent / 100, width)
            assert abs(100 * found - percent * width) <= 50


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("differentiated", [False, True])
def test_what_is_not_kept_is_zero_whatever_it_was(dtype: torch.dtype, differentiated: bool) -> None:
    x = torch.tensor([[math.nan, -2.0, math.inf, -0.0], [1.5, math.nan, -math.inf, 3.0]])
    x = x.to(dtype).T.contiguous().T.requires_grad_(differentiated)  # columns are contiguous
    for keep in (torch.tensor([True, False, False, True]), torch.tensor([False, True, True, True])):
        found = kept(x, keep.expand(2, 4))
        expected = torch.where(keep, x, 0)
        assert found.is_contiguous()
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert found.requires_grad is differentiated


def test_topk_keeps_the_largest_of_each_token() -> None:
    x = torch.tensor([[1.0, -4.0, 2.0, -3.0, 0.5], [0.0, 0.0, -0.1, 9.0, 8.0]])
    assert Largest(3)(x).tolist() == [[0, -4, 0, -3, 0], [0, 0, 0, 9, 8]]
    assert torch.equal(Largest(0)(x), x)
    assert torch.equal(Largest(5)(x), torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_of_equal_ones_the_first_are_kept_and_the_count_is_exact(dtype: torch.dtype) -> None:
    x = torch.tensor([[2.0, -1.0, 1.0, 1.0, -1.0, 0.0], [1.0] * 6], dtype=dtype)
    kept = Largest(3)(x)
    assert kept.dtype == dtype
    assert kept.tolist() == [[2, -1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_nan_and_infinity_are_larger_than_everything() -> None:
    x = torch.tensor([[1.0, math.nan, -math.inf, 5.0, 2.0]])
    found = Largest(2)(x)
    assert found.isnan().tolist() == [[False, True, False, False, False]]
    assert found[0, 2:].tolist() == [-math.inf, 5.0, 0.0]


@pytest.mark.parametrize("shape", [(0, 8), (8,), (2, 3, 8), (1, 1, 8)])
def test_any_number_of_rows(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    keep = keep_largest(x.abs(), 3)
    assert keep.shape == x.shape
    assert (keep.sum(-1) == 3).all()
    rows = x.abs().reshape(-1, 8)
    for row, chosen in zip(rows, keep.reshape(-1, 8), strict=True):
        assert set(row[chosen].tolist()) == set(row.sort(descending=True).values[:3].tolist())


def test_results_are_new_contiguous_tensors() -> None:
    x = torch.randn(6, 4).t()
    for selector in (Largest(2), LargestWeighted(2, torch.ones(6)), LargestOfGroup(1, 2)):
        found = selector(x)
        assert found.is_contiguous()
        assert found.data_ptr() != x.data_ptr()
    assert torch.equal(Largest(0)(x), x)


# --- WINA


def test_wina_weighs_by_the_columns_of_the_weight() -> None:
    weight = torch.tensor([[3.0, 0.0, 1.0], [4.0, 1.0, 0.0]])  # columns of norm 5, 1, 1
    selector = LargestWeighted(2, torch.linalg.vector_norm(weight, dim=0))
    x = torch.tensor([[1.0, -4.0, 4.5], [1.0, 6.0, 0.0]])
    assert selector(x).tolist() == [[1, 0, 0], [0, 6, 0]]
    assert Largest(2)(x).tolist() == [[0, 0, 4.5], [0, 6, 0]]


def test_wina_has_the_true_norms_at_every_site(small_model: Any) -> None:
    """The published code has them at k and gate only."""
    model = small_model("qwen2")
    plan = by_name()["wina"].plan(calibrator(model), 0.5)
    assert list(plan.selectors) == [site.name for site in model.sites]
    for site in model.sites:
        selector = plan.selectors[site.name]
        assert isinstance(selector, LargestWeighted)
        expected = [float(column.square().sum().sqrt()) for column in site.module.weight.T]
        assert selector.norms.tolist() == pytest.approx(expected)
        assert len(selector.norms) == site.module.in_features


def test_wina_chooses_at_q_k_and_v_by_their_own_weights(tiny: Any) -> None:
    plan = by_name()["wina"].plan(calibrator(tiny), 0.5)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    q, k = (plan.selectors[f"0.{kind}"] for kind in "qk")
    assert q != k
    assert not torch.equal(q(x), k(x))
    with sparsify(tiny, plan) as attached:
        attached.counting = True
        hidden_states(tiny, TEXT)
        assert attached.achieved.weighted == 0.5


def test_wina_loses_less_output_than_topk(small_model: Any) -> None:
    """||W x - W S(x)|| is what the weighing is for (papers: 0.70 against 1.68)."""
    model = small_model("llama")
    for site in model.sites:  # columns of one size would leave nothing to choose
        noise = torch.randn(site.module.in_features, generator=torch.Generator().manual_seed(2))
        site.module.weight.mul_(noise.exp())
    weights = {site.name: site.module.weight for site in model.sites}

    def output_error(site: str, found: Kept) -> float:
        return float(((found.x - found.kept) @ weights[site].T).norm(dim=-1).mean())

    lost: dict[str, float] = {}
    for name in ("wina", "topk"):
        plan = by_name()[name].plan(calibrator(model), 0.5)
        (found,) = observe_kept(model, plan, [TEXT], output_error)
        lost[name] = sum(found.values())
    assert lost["wina"] < 0.95 * lost["topk"]


# --- N:M


def test_patterns_keep_the_largest_of_each_group() -> None:
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5, 7.0, 7.0, -7.0, 0.0]])
    assert LargestOfGroup(2, 4)(x).tolist() == [[0, -2, 3, 0, 7, 7, 0, 0]]
    assert LargestOfGroup(1, 2)(x).tolist() == [[0, -2, 3, 0, 7, 0, -7, 0]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (8, 16)])
def test_patterns_hold_at_every_site_and_token(small_model: Any, n: int, m: int) -> None:
    model = small_model("llama")
    plan = by_name()[f"nm_{n}_{m}"].plan(calibrator(model), 0.5)

    def check(site: str, found: Kept) -> bool:
        groups = found.kept.reshape(len(found.kept), -1, m)
        assert ((groups != 0).sum(-1) == n).all()
        kept = groups.abs().where(groups != 0, torch.inf).amin(-1)
        dropped = found.x.reshape(groups.shape).where(groups == 0, 0.0).abs().amax(-1)
        return bool((kept >= dropped).all())

    (found,) = observe_kept(model, plan, [TEXT], check)
    assert list(found) == [site.name for site in model.sites]
    assert all(found.values())


@pytest.mark.parametrize("level", [0.25, 0.4, 0.6, 0.0])
def test_patterns_have_one_level(tiny: Any, level: float) -> None:
    with pytest.raises(SparsityError) as caught:
        by_name()["nm_2_4"].plan(calibrator(tiny), level)
    assert str(caught.value) == (
        f"method nm_2_4 drops 0.5 of the activations and is not defined at level {level:g}; name "
        "0.5 in --sparsity-levels"
    )


def test_patterns_need_whole_groups(small_model: Any) -> None:
    model = small_model("llama", intermediate_size=40)
    by_name()["nm_2_4"].plan(calibrator(model), 0.5)
    with pytest.raises(SparsityError) as caught:
        by_name()["nm_8_16"].plan(calibrator(model), 0.5)
    assert str(caught.value) == (
        "method nm_8_16 needs groups of 16 channels, and 0.down of small-llama has 40; leave the "
        "method out of --sparsity-methods for this model"
    )


# --- all of them


@pytest.mark.parametrize(
    ("method", "level"),
    [("topk", 0.25), ("topk", 0.55), ("wina", 0.25), ("nm_2_4", 0.5), ("nm_8_16", 0.5)],
)
def test_achieved_is_exactly_the_target(small_model: Any, method: str, level: float) -> None:
    model = small_model("qwen2")
    plan = by_name()[method].plan(calibrator(model), level)
    assert plan.exact
    with sparsify(model, plan) as attached:
        attached.counting = True
        hidden_states(model, TEXT)
    for site, (dropped, seen) in attached.achieved.counts.items():
        assert dropped / seen == pytest.approx(plan.target(site), abs=1e-12)
        assert abs(plan.target(site) - level) <= 0.5 / 32
    assert plan.plateau == ()


@pytest.mark.parametrize("method", ["topk", "wina"])
def test_level_zero_is_dense_and_level_one_is_nothing(tiny: Any, method: str) -> None:
    dense = hidden_states(tiny, TEXT)
    with sparsify(tiny, by_name()[method].plan(calibrator(tiny), 0.0)):
        assert torch.equal(hidden_states(tiny, TEXT), dense)
    with sparsify(tiny, by_name()[method].plan(calibrator(tiny), 1.0)) as attached:
        attached.counting = True
        hidden_states(tiny, TEXT)
        assert attached.achieved.weighted == 1.0
