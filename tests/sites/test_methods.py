"""Methods, weights in fewer bits and kernels on experts, fused matrices and hybrid stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from built_families import APART, built

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.cats import Cats
from pytest_sparsity.methods.neurons.cold_skip import ColdSkipOracle
from pytest_sparsity.methods.neurons.fixed import HotOnly
from pytest_sparsity.methods.neurons.selectors import PredictedNeurons
from pytest_sparsity.methods.nm import GroupPattern
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.methods.teal import Teal
from pytest_sparsity.methods.teal_greedy import TealGreedy
from pytest_sparsity.methods.topk import TopK
from pytest_sparsity.methods.wina import Wina
from pytest_sparsity.models.compression.compress import compress

EVERY = PrefillPolicy("none")
DOCUMENTS = [torch.tensor([(7 + n) * t % 256 for t in range(1, 41)]) for n in range(3)]


@pytest.fixture
def made(wrapped: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda family: wrapped(built(family), family)


def logits(model: Any, text: torch.Tensor = DOCUMENTS[0], **given: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.model(input_ids=text[None], use_cache=False, **given).logits
    return found


@pytest.mark.parametrize(
    "method", [Teal(), TopK(), Wina(), GroupPattern(2, 4)], ids=lambda m: m.name
)
@pytest.mark.parametrize(
    "family", ["mixtral", "gpt_oss", "phi3", "qwen3_next", "falcon_h1", "llama4"]
)
def test_channels_are_dropped_everywhere(made: Any, family: str, method: Any) -> None:
    model = made(family)
    plan = method.plan(Calibrator(model, DOCUMENTS, FIRST_TOKEN_DENSE), 0.5)
    assert set(plan.sparse_sites) == {site.name for site in model.sites}
    with sparsify(model, plan) as attached:
        attached.counting = True
        logits(model)
        assert attached.achieved.weighted == pytest.approx(0.5, abs=0.06)


def test_neurons_of_a_fused_mlp_save_its_rows_and_columns(made: Any) -> None:
    model = made("phi3")
    plan = HotOnly().plan(Calibrator(model, DOCUMENTS, EVERY), 0.5)
    assert {neurons.skips for neurons in plan.neurons.values()} == {("gate_up", "down")}
    with sparsify(model, plan) as attached:
        attached.counting = True
        found = logits(model)
        counts = attached.achieved.counts
    assert set(counts) == {f"{n}.{kind}" for n in (0, 1) for kind in ("gate_up", "down")}
    assert {dropped / seen for dropped, seen in counts.values()} == {0.5}
    other = built("phi3")
    for number, layer in enumerate(other.model.layers):
        mask = plan.neurons[f"{number}.down"].mask
        layer.mlp.gate_up_proj.weight[~torch.cat([mask, mask])] = 0
    with torch.inference_mode():
        expected = other(input_ids=DOCUMENTS[0][None], use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reads", ["input", "residual"])
def test_neurons_of_a_fused_mlp_are_decided_by_what_it_reads(made: Any, reads: str) -> None:
    model = made("phi3")
    seen: list[torch.Tensor] = []

    class Predictor:
        weights = 0

        def scores(self, read: torch.Tensor) -> torch.Tensor:
            seen.append(read)
            return torch.arange(48.0).expand(*read.shape[:-1], 48)

    own: Any = PredictedNeurons(24, predictor=Predictor(), skips=("gate_up", "down"), reads=reads)
    layer = model.model.model.layers[1]
    place = layer.mlp.gate_up_proj if reads == "input" else layer.post_attention_layernorm
    given: list[torch.Tensor] = []
    place.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    with sparsify(model, Plan("own", 0.5, {}, EVERY, neurons={"1.down": own})):
        logits(model)
    assert torch.equal(seen[-1], given[-1])


@pytest.mark.parametrize("method", [HotOnly(), ColdSkipOracle()], ids=lambda method: method.name)
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "qwen3_next"])
def test_neurons_of_experts_are_one_sentence(made: Any, family: str, method: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        method.plan(Calibrator(made(family), DOCUMENTS, EVERY), 0.5)
    fused = "gate" if APART else "gate_up"
    first = {
        "mixtral": f"0.experts.0.{fused}",
        "qwen3_moe": f"1.experts.0.{fused}",
        "qwen3_next": "0.shared.down",
    }[family]
    assert str(caught.value) == (
        f"model {family} has experts, or several MLPs in a layer, or layers in several places "
        f"({first}), and neurons are skipped where a layer has one MLP of its own; leave the "
        "methods of neurons out of --sparsity-methods for it"
    )


def test_gates_in_one_matrix_are_one_sentence(made: Any) -> None:
    with pytest.raises(SparsityError, match=r"phi3 has none of their own: gate and up are one"):
        Cats().plan(Calibrator(made("phi3"), DOCUMENTS, EVERY), 0.5)


def test_a_search_over_experts_is_one_sentence(made: Any) -> None:
    fused = "gate" if APART else "gate_up"
    with pytest.raises(SparsityError, match=rf"not all tokens come to 0\.experts\.0\.{fused} of"):
        TealGreedy().plan(Calibrator(made("mixtral"), DOCUMENTS, EVERY), 0.5)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "phi3", "falcon_h1"])
def test_kernels_compute_steps_of_decoding(made: Any, family: str) -> None:
    """One threshold for all experts: their kernels are not joined for that."""
    if family == "falcon_h1" and APART:
        pytest.skip("transformers 4 makes a cache of Falcon-H1 in generate() alone")
    model = made(family)
    plan = Plan("by_hand", 0.5, {site.name: Threshold(0.3) for site in model.sites})
    found = {}
    for kernels in ("none", "torch"):
        with sparsify(model, plan, kernels) as attached, torch.inference_mode():
            assert set(attached.kernels) == (
                {s.name for s in model.sites} if kernels != "none" else set()
            )
            first = model.model(input_ids=DOCUMENTS[0][None, :12], use_cache=True)
            cache, steps = first.past_key_values, []
            for token in DOCUMENTS[0][12:20]:
                out = model.model(
                    input_ids=token[None, None], past_key_values=cache, use_cache=True
                )
                steps.append(out.logits)
            found[kernels] = torch.cat(steps, 1)
            whole = logits(model, DOCUMENTS[0][:20])[:, 12:]
        torch.testing.assert_close(found[kernels], whole, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["torch"], found["none"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["int8", "wanda-0.5", "sparsegpt-0.5"])
def test_weights_of_experts_in_fewer_bits(made: Any, weights: str) -> None:
    model = made("mixtral")
    dense = logits(model)
    small = compress(model, weights, [DOCUMENTS[0][:2]]).model
    changed = [
        not torch.equal(a.module.weight, b.module.weight)
        for a, b in zip(model.sites, small.sites, strict=True)
    ]
    assert all(changed)
    assert not torch.equal(logits(small), dense)
    assert torch.equal(logits(model), dense)


@pytest.mark.slow
def test_vectors_of_experts_are_trained(made: Any) -> None:
    model = made("mixtral")
    plan = Teal().plan(Calibrator(model, DOCUMENTS, EVERY), 0.5)
    streams = [torch.cat([(DOCUMENTS[n % 3] + n) % 256 for n in range(12)])]
    recipe = Recipe(
        steps=40,
        sequences=2,
        length=32,
        rate=1e-2,
        held_out=1,
        check_every=5,
        sites=("gate", "up", "down"),
    )
    vectors = train(model, plan, streams, recipe)
    assert set(vectors.a) == {site.name for site in model.sites if site.routed}
    losses = [loss for _, loss in vectors.provenance["held_out_loss"]]
    assert min(losses) < losses[0]
