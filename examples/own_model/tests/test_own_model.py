"""Tests of our own class and method, with the fixtures of pytest-sparsity.

``pytest`` runs each test at one configuration; ``pytest --sparsity-sweep tests`` runs it dense and
at all levels and methods of ``pyproject.toml``, or those that its marker names.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from own_model import DownOnly, ParallelForCausalLM
from pytest_sparsity import LanguageModel, Plan, Threshold, load_model, sparsify
from pytest_sparsity.fixtures import Degradation

KINDS = ["q", "k", "v", "o", "up", "down"]
TEXTS = ("Once upon a time", "In the year 1811")


def logits(model: LanguageModel, text: str) -> torch.Tensor:
    tokens = model.tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        return model.model(input_ids=tokens).logits[0]


def zeros(model: LanguageModel, text: str) -> dict[str, float]:
    """Per kind of site, the share of zeros in what its layers read after the first token."""
    found: dict[str, list[torch.Tensor]] = {}
    handles = [
        site.module.register_forward_pre_hook(
            lambda layer, args, kind=site.kind: found.setdefault(kind, []).append(args[0][:, 1:])
        )
        for site in model.sites
    ]
    logits(model, text)
    for handle in handles:
        handle.remove()
    return {kind: float((torch.cat(read) == 0).double().mean()) for kind, read in found.items()}


def test_sites_of_own_class(dense_model: LanguageModel) -> None:
    assert isinstance(dense_model.model, ParallelForCausalLM)
    assert [site.name for site in dense_model.sites] == [
        f"{n}.{k}" for n in range(3) for k in KINDS
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_logits(
    dense_model: LanguageModel, sparse_model: LanguageModel, sparsity_level: float, text: str
) -> None:
    dense, sparse = logits(dense_model, text), logits(sparse_model, text)
    assert torch.isfinite(sparse).all()
    assert torch.equal(dense, sparse) == (sparsity_level == 0)
    assert torch.equal(dense[0], sparse[0])  # the first token stays dense


@pytest.mark.sparsity(levels=[0.75, 0.9], methods=["down_only"])
def test_only_down_is_sparse(
    dense_model: LanguageModel, sparse_model: LanguageModel, sparsity_level: float
) -> None:
    text = " ".join(TEXTS)
    dense, sparse = zeros(dense_model, text), zeros(sparse_model, text)
    assert dense["down"] == pytest.approx(0.5, abs=0.1)  # of ReLU
    assert sparse["down"] == pytest.approx(max(sparsity_level, dense["down"]), abs=0.1)
    assert all(sparse[kind] == dense[kind] for kind in KINDS if kind not in ("o", "down"))


def test_damage(degradation: Degradation, sparsity_method: str) -> None:
    limit = {"dense": 0.0, "teal": 2.0, DownOnly.name: 0.5}[sparsity_method]
    degradation.assert_within("kl:austen", limit)


@pytest.mark.sparsity(levels=[0.25], methods=["down_only"])
def test_relu_costs_nothing(degradation: Degradation, sparsity_level: float) -> None:
    for found in degradation.measure("perplexity:austen"):
        assert found.change is None or found.change.estimate == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.01, 1.0])
def test_plan_by_hand(own_folder: Path, threshold: float) -> None:
    model = load_model(str(own_folder), dtype="float32")
    twin = model.twin()
    plan = Plan("by_hand", 0.5, {site.name: Threshold(threshold) for site in twin.sites})
    dense = logits(model, TEXTS[0])
    with sparsify(twin, plan) as attached:
        attached.counting = True
        sparse = logits(twin, TEXTS[0])
        assert (attached.achieved.weighted > 0.5) == (threshold == 1)
    assert torch.equal(sparse, dense) == (threshold == 0)
    assert torch.equal(logits(twin, TEXTS[0]), dense)


@pytest.mark.parametrize("cut", [1, 7])
def test_cache_of_own_class(dense_model: LanguageModel, cut: int) -> None:
    tokens = dense_model.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.inference_mode():
        whole = dense_model.model(input_ids=tokens).logits
        begun = dense_model.model(input_ids=tokens[:, :cut], use_cache=True)
        rest = dense_model.model(
            input_ids=tokens[:, cut:], use_cache=True, past_key_values=begun.past_key_values
        ).logits
    torch.testing.assert_close(rest, whole[:, cut:])
