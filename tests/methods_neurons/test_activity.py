from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.activity import (
    TAIL,
    active,
    calibrated_counts,
    contribution,
    count_neurons,
    tail_of,
    truncation_error,
)
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import LanguageModel

ONES = torch.ones(4)


def test_active_neurons_are_the_fewest_that_hold_the_energy() -> None:
    h = torch.tensor([[3.0, -4.0, 0.0, 1.0]])  # energies 9, 16, 0, 1 of 26
    assert active(h, ONES, 0.03).tolist() == [[True, True, False, True]]
    assert active(h, ONES, 0.04).tolist() == [[True, True, False, False]]  # 1 / 26 = 0.038
    assert active(h, ONES, 0.39).tolist() == [[False, True, False, False]]


def test_equal_neurons_are_active_together() -> None:
    assert active(torch.ones(1, 4), ONES, 0.5).tolist() == [[True] * 4]


def test_what_the_tail_just_holds_is_inactive() -> None:
    h = torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0]])  # energies 4 and 4 of 8
    assert active(h, torch.ones(5), 0.5).tolist() == [[False] * 4 + [True]]


def test_without_a_tail_active_is_not_zero() -> None:
    h = torch.tensor([[1e-30, -0.0, float("nan"), 2.0]])
    assert active(h, ONES, 0.0).tolist() == [[True, False, True, True]]


def test_a_silent_token_has_no_active_neuron() -> None:
    assert not active(torch.zeros(2, 4), ONES, TAIL).any()


def test_the_columns_of_down_weigh() -> None:
    h = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    norms = torch.tensor([0.0, 0.1, 2.0, 1.0])
    assert active(h, norms, TAIL).tolist() == [[False, False, True, True]]


def test_the_scale_of_a_layer_does_not_matter() -> None:
    h = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    norms = torch.ones(40)
    assert torch.equal(active(h, norms, TAIL), active(1024 * h, norms, TAIL))


@pytest.mark.parametrize("tail", [-0.1, 1.0])
def test_a_tail_out_of_range(tail: float) -> None:
    with pytest.raises(ValueError, match="tail"):
        active(torch.ones(1, 4), ONES, tail)


def test_the_energy_bounds_the_error_where_contributions_are_orthogonal() -> None:
    lot = torch.Generator().manual_seed(0)
    h = torch.randn(20, 64, generator=lot).double()
    weight = torch.linalg.qr(torch.randn(64, 64, generator=lot).double()).Q
    kept = torch.where(active(h, weight.norm(dim=0).float(), TAIL), h, 0.0)
    error = truncation_error(h, kept, weight)
    assert float(error.max()) <= TAIL**0.5
    left = contribution(h - kept, torch.ones(64)).square().sum(-1) / h.square().sum(-1)
    torch.testing.assert_close(error.double(), left.double().sqrt())


def test_the_error_of_silence_is_zero() -> None:
    zeros = torch.zeros(2, 4)
    assert truncation_error(zeros, zeros, torch.ones(3, 4)).tolist() == [0.0, 0.0]


def test_models_know_what_active_means(
    model: LanguageModel, relu_model: LanguageModel, opt_model: LanguageModel
) -> None:
    assert tail_of(model) == TAIL
    assert tail_of(relu_model) == 0.0
    assert tail_of(opt_model) == 0.0


@pytest.mark.parametrize("which", ["relu_model", "opt_model", "model"])
def test_counts_are_those_of_every_document(
    which: str, documents: list[torch.Tensor], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    seen: dict[int, torch.Tensor] = {}
    downs = {site.layer: site.module for site in model.sites if site.kind == "down"}

    def hook_of(layer: int) -> object:
        def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            h = args[0].reshape(-1, args[0].shape[-1])[1:]
            norms = downs[layer].weight.norm(dim=0)
            found = active(h, norms, tail_of(model)).sum(0)
            seen[layer] = seen.get(layer, 0) + found

        return hook

    handles = [m.register_forward_pre_hook(hook_of(n)) for n, m in downs.items()]  # type: ignore[arg-type]
    for tokens in documents:
        model.model(input_ids=tokens[None])
    for handle in handles:
        handle.remove()
    counted = count_neurons(model, documents, FIRST_TOKEN_DENSE)
    assert counted.tokens == 8 * 47
    assert list(counted.counts) == sorted(downs)
    for layer, expected in seen.items():
        assert torch.equal(counted.counts[layer], expected)


def test_relu_neurons_are_left_out_at_no_cost(
    relu_model: LanguageModel, model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    prefill = PrefillPolicy("none")
    assert count_neurons(relu_model, documents, prefill).truncation_error == (0.0, 0.0)
    for error in count_neurons(model, documents, prefill).truncation_error:
        assert 0.1 < error < 0.3  # the root of the tail is 0.2


def test_the_calibrators_counts_are_the_same(
    calibrator: Callable[..., Calibrator], model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    ours = calibrated_counts(calibrator())
    theirs = count_neurons(model, documents, FIRST_TOKEN_DENSE)
    assert all(torch.equal(ours.counts[n], theirs.counts[n]) for n in theirs.counts)
    assert ours.truncation_error == theirs.truncation_error
    assert len(ours.whole) == sum(len(counts) for counts in ours.counts.values())


def test_more_than_ten_layers_are_in_natural_order(model: LanguageModel) -> None:
    # PowerInfer's export_split sorts "activation_10" before "activation_2" (papers.md 3.5).
    from transformers import LlamaForCausalLM

    from pytest_sparsity.models.backbone import find_sites

    config = copy.deepcopy(model.model.config)
    config.num_hidden_layers = 12
    network = LlamaForCausalLM(config).eval()
    deep = replace(model, model=network, sites=find_sites(network))
    counted = count_neurons(deep, [torch.arange(6)], PrefillPolicy("none"))
    assert all(a < b for a, b in pairwise(counted.counts))
    assert len(counted.counts) == 12


def test_a_policy_that_keeps_everything_dense(
    model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    with pytest.raises(SparsityError, match="first:48 keeps every token"):
        count_neurons(model, documents, PrefillPolicy("first:48"))


def test_a_model_without_neurons(model: LanguageModel, documents: list[torch.Tensor]) -> None:
    headless = replace(model, sites=tuple(s for s in model.sites if s.kind != "down"))
    with pytest.raises(SparsityError, match="no site of the kind 'down'"):
        count_neurons(headless, documents, FIRST_TOKEN_DENSE)
