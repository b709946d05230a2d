from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.backbone import find_sites
from pytest_sparsity.settings.options import KINDS

SMALL: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 11,  # past ten, so that the order is by number and not by text
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "gemma3": transformers.Gemma3TextConfig,
}


def build(config: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_linear_layer_of_the_blocks_is_a_site(name: str) -> None:
    model = build(CONFIGS[name](**SMALL))
    sites = find_sites(model)
    assert [site.name for site in sites] == [f"{n}.{kind}" for n in range(11) for kind in KINDS]
    mapped = {id(site.module) for site in sites}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert (id(module) in mapped) == (path != "lm_head"), path
    for site in sites:
        layer = model.model.layers[site.layer]
        part = layer.self_attn if site.kind in ("q", "k", "v", "o") else layer.mlp
        assert getattr(part, f"{site.kind}_proj") is site.module
    assert (sites[0].module.bias is not None) == (name == "qwen2")


def test_a_layer_of_another_class_is_one_clear_sentence() -> None:
    model = build(transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32))
    with pytest.raises(SparsityError) as caught:
        find_sites(model)  # its Conv1D layers have not been exchanged
    assert str(caught.value) == (
        "GPT2LMHeadModel cannot be sparsified: transformer.h.0.attn.c_attn (Conv1D) is not mapped: "
        "only torch.nn.Linear layers can be; use a model that is built from them"
    )


def test_an_unknown_family_says_where_to_add_it() -> None:
    config = transformers.GPTJConfig(n_embd=16, n_layer=2, n_head=2, rotary_dim=4, vocab_size=32)
    with pytest.raises(SparsityError) as caught:
        find_sites(build(config))
    message = str(caught.value)
    assert message.startswith("GPTJForCausalLM cannot be sparsified: transformer.h.0.")
    assert "(Linear) is not mapped: no layout names it; give one with the model" in message


def test_a_family_is_not_mapped_in_part() -> None:
    config = transformers.PhiConfig(**{**SMALL, "num_hidden_layers": 2})
    with pytest.raises(SparsityError, match=r"PhiForCausalLM .* \(Linear\) is not mapped"):
        find_sites(build(config))


def test_experts_are_not_taken_for_a_dense_model() -> None:
    config = transformers.MixtralConfig(**{**SMALL, "num_hidden_layers": 2, "num_local_experts": 2})
    with pytest.raises(SparsityError, match=r"MixtralForCausalLM .* is not mapped"):
        find_sites(build(config))


def test_layers_that_differ_are_one_clear_sentence() -> None:
    model = build(transformers.LlamaConfig(**SMALL))
    del model.model.layers[10].mlp.gate_proj
    with pytest.raises(SparsityError, match=r"layer 10 has the sites .* and layer 0 has"):
        find_sites(model)


def test_a_second_layer_of_one_kind_is_refused() -> None:
    model = build(transformers.LlamaConfig(**SMALL))
    model.model.layers[3].extra = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(4, 4)})
    with pytest.raises(SparsityError, match=r"layers\.3\.extra\.q_proj .* a second 'q'"):
        find_sites(model)


def test_a_layer_in_two_places_is_refused() -> None:
    """Tied weights fold into a bias each; one layer has one bias, whichever was folded last."""
    layers = (model := build(transformers.LlamaConfig(**SMALL))).model.layers
    layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    assert len(find_sites(model)) == 11 * len(KINDS)
    layers[1].mlp = layers[0].mlp
    with pytest.raises(SparsityError, match=r"0\.gate and 1\.gate are one layer, which can have"):
        find_sites(model)
