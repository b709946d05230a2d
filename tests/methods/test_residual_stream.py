"""What PowerInfer's predictors read, found by what is computed in models of several families."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import RESIDUAL, Plan
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.residual_stream import mlp_norms
from pytest_sparsity.models import LanguageModel, load_model
from pytest_sparsity.models.backbone import find_sites
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.tiny import tiny_tokenizer

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
#: Family, configuration, and the name of the norm in a block that the MLP reads.
FAMILIES = {
    "llama": ({}, "post_attention_layernorm"),
    "gemma2": ({"head_dim": 8}, "pre_feedforward_layernorm"),
    "opt": (OPT, "final_layer_norm"),
    "gpt_neox": ({"use_parallel_residual": True}, "post_attention_layernorm"),
    "gpt2": (GPT2, "ln_2"),
}
TOKENS = torch.arange(3, 15)


def _model(family: str) -> LanguageModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    from pytest_sparsity.models.backbone import use_linear_layers

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family][0]})
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    use_linear_layers(network)
    return LanguageModel(
        family, family, network, tiny_tokenizer(), family, torch.float32, find_sites(network)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_norm_before_the_mlp_is_found(family: str) -> None:
    model = _model(family)
    names = {id(module): name for name, module in model.model.named_modules()}
    found = {layer: names[id(norm)].rpartition(".")[2] for layer, norm in mlp_norms(model).items()}
    assert found == dict.fromkeys(range(2), FAMILIES[family][1])


@pytest.mark.parametrize("family", FAMILIES)
def test_its_input_is_the_residual_stream(family: str) -> None:
    """The block's output less what the MLP adds to it, computed from the outside."""
    model, seen = _model(family), {}
    with observe(model, PrefillPolicy("none"), seen.__setitem__, also=[RESIDUAL]):
        hidden_states(model, TOKENS)
    for layer, norm in mlp_norms(model).items():
        torch.testing.assert_close(norm(seen[f"{layer}.residual"]), seen[f"{layer}.up"])
        assert not torch.equal(seen[f"{layer}.residual"], seen[f"{layer}.up"])


def test_dense_rows_are_left_out() -> None:
    model, seen = _model("llama"), {}
    with observe(model, FIRST_TOKEN_DENSE, seen.__setitem__, also=[RESIDUAL]):
        hidden_states(model, TOKENS)
    assert seen["1.residual"].shape == (11, 32)


class _ByResidual:
    """Somebody's own selector: neuron j is kept where channel j % H of the stream is positive."""

    reads, skips = RESIDUAL, ("gate", "up", "down")

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        self.seen.append(read)
        return (read > 0).repeat(1, 1, 2)[..., :48]


def test_a_selector_of_others_may_read_it() -> None:
    model, stream = _model("llama"), {}
    with observe(model, PrefillPolicy("none"), stream.__setitem__, also=[RESIDUAL]):
        hidden_states(model, TOKENS)
    selector = _ByResidual()
    plan = Plan("mine", 0.5, {}, PrefillPolicy("none"), neurons={"0.down": selector})
    twin, inputs = model.twin(), []
    with sparsify(twin, plan):
        down = next(site for site in twin.sites if site.name == "0.down")
        handle = down.module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        hidden_states(twin, TOKENS)
        handle.remove()
    (read,), (h,) = selector.seen, inputs
    assert torch.equal(read[0], stream["0.residual"])
    assert torch.equal(h == 0, ~selector.keeps(read))


def test_a_block_without_a_norm_before_its_mlp() -> None:
    model = _model("llama")
    model.model.get_submodule("model.layers.1").post_attention_layernorm = nn.Identity()
    with pytest.raises(
        SparsityError, match=r"llama do not read what a norm gives \(layers \[1\]\)"
    ):
        mlp_norms(model)


def test_a_model_without_the_sites() -> None:
    model = load_model("tiny-random", dtype="float32")
    bare = replace(model, sites=tuple(site for site in model.sites if site.kind != "up"))
    with pytest.raises(SparsityError, match="leave the methods that read it"):
        mlp_norms(bare)
