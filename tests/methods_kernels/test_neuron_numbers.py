"""Kernels for plans by neurons change no number: outputs and counts are those of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from neuron_plans import (
    KINDS,
    LAYERS,
    Calls,
    block_of,
    constant,
    downs,
    fixed,
    plan_of,
    predicted,
)
from steps import STEPS, TEXT, assert_same, decode
from torch import Tensor, nn

from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.neurons.selectors import FixedNeurons
from pytest_sparsity.methods.plan import INPUT
from pytest_sparsity.models import load_model
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs, error_bound
from pytest_sparsity.reference.hot_cold_mlp import hot_cold_mlp as reference_mlp
from pytest_sparsity.reference.precision import Precision, output_bound, tolerance_used

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("select", ["input", "residual", "fixed"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "arcee"])
def test_steps_are_those_of_masked_layers(
    family: str, select: str, small_model: Callable[..., Any], calls: Calls
) -> None:
    model = small_model(family)
    plan = plan_of(model, fixed if select == "fixed" else lambda site: predicted(site, select))
    with sparsify(model, plan):
        masked = decode(model)
    assert not calls
    with sparsify(model, plan, kernels="watched") as attached:
        kinds = KINDS[1:] if family == "arcee" else KINDS
        sites = [site.name for site in model.sites if site.kind in kinds]
        assert attached.kernels == dict.fromkeys(sites, "watched")
        calls.clear()
        assert_same(decode(model), masked)
    assert len(calls) == LAYERS * STEPS
    assert {rows for rows, _ in calls} == {1}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kernels", ["none", "cpu"])
def test_every_step_is_within_the_bound_of_the_op(kernels: str, dtype: str, biased: bool) -> None:
    model = load_model("tiny-random", dtype=dtype)
    plan = plan_of(model, bias=constant(model) if biased else {})
    steps: list[tuple[int, Tensor, Tensor]] = []
    with sparsify(model, plan, kernels=kernels) as attached:
        for layer in range(LAYERS):

            def hook(_: Any, args: Any, output: Tensor, layer: int = layer) -> None:
                if args[0].shape[1] == 1:
                    steps.append((layer, args[0][0].clone(), output[0].clone()))

            block_of(model, layer).register_forward_hook(hook)
        biases = {site.layer: site.module.bias for site in downs(model)}
        decode(model)
        assert set(attached.kernels.values()) == ({"cpu"} if kernels == "cpu" else set())
    modules = {site.name: site.module for site in model.sites}
    intermediate = torch.float32 if kernels == "cpu" else model.dtype
    precision = Precision(model.dtype, torch.float32, intermediate)
    assert len(steps) == LAYERS * STEPS
    for layer, x, y in steps:
        gate, up, down = (modules[f"{layer}.{kind}"].weight for kind in KINDS)
        kept = plan.neurons[f"{layer}.down"].keeps(x)[0].nonzero().squeeze(1).int()
        assert 0 < len(kept) < len(up)
        inputs = HotColdMlpInputs(x, up, down, 0, kept, "silu", gate)
        reference, bound = reference_mlp(inputs), error_bound(inputs, precision)
        if biased:
            reference = reference + biases[layer].double()
            bound = bound + output_bound(reference, model.dtype)
        assert float(tolerance_used(y, reference, bound).max()) <= 1


def test_a_bias_of_down_itself_is_added(small_model: Callable[..., Any], calls: Calls) -> None:
    model = small_model("llama")
    for site in downs(model):
        site.module.bias = nn.Parameter(constant(model)[site.name], requires_grad=False)
    plan = plan_of(model)
    with sparsify(model, plan):
        masked = decode(model)
    with sparsify(model, plan, kernels="watched") as attached:
        assert len(attached.kernels) == LAYERS * len(KINDS)
        assert_same(decode(model), masked)
    both = replace(plan, bias=constant(model))
    with sparsify(model, both):
        masked = decode(model)
    with sparsify(model, both, kernels="watched"):
        assert_same(decode(model), masked)


def test_a_token_may_keep_no_neuron_or_all(tiny: Any) -> None:
    for share in (0.0, 1.0):
        plan = plan_of(tiny, lambda site, share=share: predicted(site, INPUT, share))  # type: ignore[misc]
        with sparsify(tiny, plan):
            masked = decode(tiny)
        with sparsify(tiny, plan, kernels="cpu") as attached:
            assert attached.kernels
            assert_same(decode(tiny), masked)


def test_fixed_neurons_are_listed_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tiny, fixed)
    with sparsify(tiny, plan, kernels="cpu"), torch.inference_mode():
        cache = tiny.model(input_ids=TEXT[None], use_cache=True).past_key_values
        monkeypatch.setattr(FixedNeurons, "keeps", None)
        tiny.model(input_ids=TEXT[None, :1], past_key_values=cache)


@pytest.mark.parametrize("select", [predicted, fixed])
def test_counts_are_those_of_masked_layers(
    select: Callable[[Any], Any], tiny: Any, calls: Calls
) -> None:
    plan = plan_of(tiny, select)
    counts = []
    for kernels in ("none", "watched"):
        with sparsify(tiny, plan, kernels=kernels) as attached:
            decode(tiny)
            attached.counting = True
            decode(tiny)
            counts.append(attached.achieved.counts)
    assert calls
    assert counts[0] == counts[1]
    assert set(counts[0]) == {site.name for site in tiny.sites if site.kind in KINDS}
