"""Pruning against its definitions, written out."""

from __future__ import annotations

import itertools

import pytest
import torch

from pytest_sparsity.models.compression import columns, masks, pruning
from pytest_sparsity.models.compression.hessian import DAMPING, output_error, second_moment
from pytest_sparsity.models.compression.names import parse
from pytest_sparsity.reference import semi_structured


def zeros(weight):
    return int((weight == 0).sum())


def test_the_share_is_meant_as_written():
    assert masks.count_of(0.29, 100) == 29  # 0.29 * 100 is 28.999...
    assert masks.count_of(0.55, 100) == 55  # 0.55 * 100 is 55.000...1
    assert masks.count_of(0.9, 10) == 9  # 10 * (1 - 0.9) is less than 1
    assert masks.count_of(0.5, 3) == 1


def test_tied_scores_do_not_drop_more():
    assert masks.keep_largest(torch.ones(2, 6), 4).tolist() == [[True, True] + [False] * 4] * 2


def test_magnitude_compares_the_whole_layer(layer):
    weight, _ = layer(8, 12)
    weight[0] *= 100  # no weight of this output goes
    pruned = pruning.magnitude(weight, parse("magnitude-0.5"))
    smallest = set(weight.abs().flatten().argsort()[:48].tolist())
    assert {i for i, v in enumerate(pruned.flatten().tolist()) if v == 0} == smallest
    assert zeros(pruned[0]) == 0
    assert torch.equal(pruned[pruned != 0], weight[pruned != 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wanda_by_definition(layer, dtype):
    weight, x = layer(6, 10)
    weight = weight.to(dtype)
    pruned = pruning.wanda(weight, pruning.mean_square(x), parse("wanda-0.4"))
    norm = x.double().pow(2).sum(0).sqrt()  # ||x_k||, the norm over all tokens
    for row, result in zip(weight, pruned, strict=True):
        order = sorted(range(10), key=lambda k: float(row[k].abs().double() * norm[k]))
        assert {k for k in range(10) if result[k] == 0} == set(order[:4])
        kept = order[4:]
        assert torch.equal(result[kept], row[kept])


def test_wanda_pattern_by_definition(layer):
    weight, x = layer(5, 16)
    pruned = pruning.wanda(weight, pruning.mean_square(x), parse("wanda-2:4"))
    scores = weight.abs() * x.norm(dim=0)
    for n, start in itertools.product(range(5), range(0, 16, 4)):
        group = scores[n, start : start + 4]
        kept = set(group.argsort(descending=True)[:2].tolist())
        assert {k for k in range(4) if pruned[n, start + k] != 0} == kept


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "8:16"])
def test_patterns_fit_the_reference(layer, pattern):
    weight, x = layer(6, 32)
    scheme = parse(f"magnitude-{pattern}")
    assert scheme.pattern is not None
    n, m = scheme.pattern
    assert torch.equal(pruning.magnitude(weight, scheme), semi_structured.prune(weight, n, m))
    for pruned in (
        pruning.wanda(weight, pruning.mean_square(x), parse(f"wanda-{pattern}")),
        pruning.sparsegpt(weight, second_moment(x), parse(f"sparsegpt-{pattern}")),
    ):
        assert zeros(pruned) == pruned.numel() // 2
        assert torch.equal(semi_structured.unpack(semi_structured.pack(pruned, n, m)), pruned)


def surgery(weight, hessian, keep):
    """SparseGPT by the definition of optimal brain surgery, in float64.

    Column by column: a weight that goes takes the loss-minimising update of all later ones,
    with the inverse Hessian of exactly those columns that are still free.
    """
    w, h = weight.double().clone(), hessian.double().clone()
    h.diagonal().add_(DAMPING * h.diagonal().mean())
    for k in range(w.shape[1]):
        inverse = torch.linalg.inv(h[k:, k:])
        lost = torch.where(keep(w, h, k), 0.0, w[:, k])
        w[:, k:] -= lost[:, None] * inverse[0] / inverse[0, 0]
        w[:, k] = torch.where(lost != 0, 0.0, w[:, k])
    return w


@pytest.mark.parametrize("block", [128, 4])
def test_sparsegpt_is_optimal_brain_surgery(layer, monkeypatch, block):
    monkeypatch.setattr(columns, "BLOCK", block)
    weight, x = layer(6, 12)
    hessian = second_moment(x)

    chosen = {}

    def keep(w, h, k):
        if k % block == 0:  # the mask of a block is chosen when it is reached
            last = min(k + block, 12)
            # diag(U)_j^2 is the leading entry of the inverse of H from j on.
            spread = torch.stack([torch.linalg.inv(h[j:, j:])[0, 0] for j in range(k, last)])
            scores = w[:, k:last] ** 2 / spread
            order = scores.flatten().argsort()[: scores.numel() // 2]
            mask = torch.ones(scores.numel(), dtype=torch.bool)
            mask[order] = False
            for j in range(k, last):
                chosen[j] = mask.view(scores.shape)[:, j - k]
        return chosen[k]

    expected = surgery(weight, hessian, keep)
    found = pruning.sparsegpt(weight, hessian, parse("sparsegpt-0.5"))
    assert zeros(found) == zeros(expected) == 36
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_pruned_zeros_are_chosen_with_a_group_s_updated_weights(layer):
    weight, x = layer(4, 8)
    hessian = second_moment(x)
    chosen = {}

    def keep(w, h, k):
        if k % 4 == 0:
            spread = torch.stack([torch.linalg.inv(h[j:, j:])[0, 0] for j in range(k, k + 4)])
            scores = w[:, k : k + 4] ** 2 / spread
            kept = torch.zeros_like(scores, dtype=torch.bool)
            kept.scatter_(1, scores.argsort(1, descending=True)[:, :2], True)
            chosen.update({k + j: kept[:, j] for j in range(4)})
        return chosen[k]

    expected = surgery(weight, hessian, keep)
    found = pruning.sparsegpt(weight, hessian, parse("sparsegpt-2:4"))
    assert torch.allclose(found.double(), expected, atol=1e-4)


@pytest.mark.parametrize("amount", ["0.5", "2:4"])
def test_order_of_the_methods_by_output_error(layer, amount):
    """Papers' claim A8, A9: SparseGPT <= Wanda < magnitude in ||WX - W'X||."""
    weight, x = layer(64, 64)
    hessian = second_moment(x)
    by_magnitude = pruning.magnitude(weight, parse(f"magnitude-{amount}"))
    by_wanda = pruning.wanda(weight, pruning.mean_square(x), parse(f"wanda-{amount}"))
    by_sparsegpt = pruning.sparsegpt(weight, hessian, parse(f"sparsegpt-{amount}"))
    errors = [output_error(weight - w, hessian) for w in (by_sparsegpt, by_wanda, by_magnitude)]
    assert errors == sorted(errors)
    assert len(set(errors)) == 3


@pytest.mark.parametrize("dead", [(1, 5), tuple(range(16))])
def test_dead_inputs(layer, dead):
    weight, x = layer(8, 16)
    x[:, dead] = 0
    found = pruning.sparsegpt(weight, second_moment(x), parse("sparsegpt-0.5"))
    assert found.isfinite().all()
    assert not found[:, dead].any()
    if len(dead) == 2:
        assert zeros(found) == 64  # they count among those that go
    wanda = pruning.wanda(weight, pruning.mean_square(x), parse("wanda-0.5"))
    assert zeros(wanda) == 64
    assert len(dead) == 16 or not wanda[:, dead].any()


def test_output_error_is_that_of_the_outputs(layer):
    _, x = layer(5, 7)
    change = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    by_hand = (x.double() @ change.double().T).pow(2).sum(1).mean()
    assert output_error(change, second_moment(x)) == pytest.approx(float(by_hand), rel=1e-5)
