from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.backbone import find_sites, map_model
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


def test_layers_of_another_class_are_one_clear_sentence() -> None:
    model = build(transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32))
    with pytest.raises(SparsityError) as caught:
        find_sites(model)  # its Conv1D layers have not been exchanged
    assert str(caught.value) == (
        "GPT2LMHeadModel cannot be sparsified: its decoder blocks hold no linear layer; use a "
        "model that is built from torch.nn.Linear layers"
    )


def test_a_layer_that_is_missing_is_one_clear_sentence() -> None:
    model = build(transformers.LlamaConfig(**SMALL))
    del model.model.layers[10].mlp.gate_proj
    with pytest.raises(SparsityError) as caught:
        find_sites(model)
    message = str(caught.value)
    assert message.startswith(
        "LlamaForCausalLM cannot be sparsified: it does not run on tokens alone"
    )
    assert "'gate_proj'" in message
    assert message.endswith("; use a decoder-only language model")


def test_a_layer_that_is_not_run_is_no_site() -> None:
    model = build(transformers.LlamaConfig(**SMALL))
    model.model.layers[3].extra = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(4, 4)})
    mapped = map_model(model)
    assert [site.name for site in mapped.sites] == [
        f"{n}.{kind}" for n in range(11) for kind in KINDS
    ]
    assert [(each.name, each.weights, each.reason) for each in mapped.exempt] == [
        ("3.extra.q_proj.weight", 16, "is not run on text")
    ]


def test_a_layer_in_two_places_is_one_site() -> None:
    layers = (model := build(transformers.LlamaConfig(**SMALL))).model.layers
    layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    assert len(find_sites(model)) == 11 * len(KINDS)  # a weight is not a layer
    layers[1].mlp = layers[0].mlp
    found = {site.name: site.places for site in find_sites(model)}
    assert len(found) == 11 * len(KINDS) - 3
    assert {name for name, places in found.items() if places == 2} == {"0.gate", "0.up", "0.down"}
    assert "1.gate" not in found


@pytest.mark.parametrize("kind", ["q_proj", "no_such_name"])
def test_a_layout_is_held_to(kind: str) -> None:
    """What the author of a model says is not completed by what a pass shows."""
    model = build(transformers.LlamaConfig(**SMALL))
    with pytest.raises(SparsityError, match=r"no layout names it; give one with the model"):
        find_sites(model, {kind: "q"})
