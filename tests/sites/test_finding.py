"""Sites that are found by what a pass computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from built_families import FAMILIES, built, names_of
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.backbone import map_model, use_linear_layers
from pytest_sparsity.models.kinds import ALL_KINDS, kind_of_path

TEXT = torch.arange(5, 45)[None]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_product_of_the_blocks_is_a_site_or_exempt(family: str) -> None:
    model = built(family, None if family == "llama4" else "eager")
    with torch.inference_mode():
        expected = model(input_ids=TEXT, use_cache=False).logits
    parameters = sum(
        p.numel() for n, p in model.named_parameters() if ".layers." in n or ".h." in n
    )
    use_linear_layers(model)
    mapped = map_model(model)
    assert [site.name for site in mapped.sites] == names_of(family)
    assert {site.kind for site in mapped.sites} <= set(ALL_KINDS)
    assert mapped.exempt_share < 0.02
    with torch.inference_mode():
        found = model(input_ids=TEXT, use_cache=False).logits
    if family == "llama4":  # all experts in one product there, with the tokens of others as zeros
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(found, expected)
    # What is no site's has one axis, or is said to be exempt.
    rest = sum(
        p.numel()
        for n, p in model.named_parameters()
        if (".layers." in n or ".h." in n) and p.ndim < 2
    )
    sites = sum(site.module.weight.numel() for site in mapped.sites)
    assert sites + sum(each.weights for each in mapped.exempt) + rest == parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_multiplications_are_counted_another_way(family: str) -> None:
    """Multiply-adds of all products with a weight of two axes, and those of the sites alone."""
    model = built(family)
    use_linear_layers(model)
    mapped = map_model(model)
    blocks = model.get_submodule("transformer.h" if family == "gptj" else "model.layers")
    weights = {p.untyped_storage().data_ptr() for p in blocks.parameters() if p.ndim >= 2}
    total = 0

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal total
            if function.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
                a, b = args[-2:]
                if {t.untyped_storage().data_ptr() for t in (a, b)} & weights:
                    total += a.numel() * b.shape[-1]
            return function(*args, **(kwargs or {}))

    seen = 0
    # Llama 4 multiplies all tokens with each expert, those of others as rows of zeros.
    whole = {id(site.module) for site in mapped.sites if family == "llama4" and site.routed}

    def hook(layer: Any, args: Any) -> None:
        nonlocal seen
        rows = TEXT.numel() if id(layer) in whole else args[0].numel() // args[0].shape[-1]
        seen += rows * layer.weight.numel()

    modules = [site.module for site in mapped.sites]
    for each in mapped.exempt:
        if each.reason == "decides which experts a token goes to":
            number, _, path = each.name.removesuffix(".weight").partition(".")
            modules.append(blocks[int(number)].get_submodule(path))
    for module in modules:
        module.register_forward_pre_hook(hook)
    with torch.no_grad(), Counting():
        model(input_ids=TEXT, use_cache=False)
    assert total == seen > 0


def test_what_is_exempt_is_said_why() -> None:
    model = built("qwen3_next")
    use_linear_layers(model)
    found = {each.name: each.reason for each in map_model(model).exempt}
    assert found == {
        "0.linear_attn.conv1d.weight": "is a convolution",
        **dict.fromkeys(
            [f"{n}.mlp.{name}.weight" for n in (0, 1) for name in ("gate", "shared_expert_gate")],
            "decides which experts a token goes to",
        ),
    }


def test_a_model_that_multiplies_elsewhere_is_mapped_in_part() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(64, 32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.t()

    model = built("phi")
    for layer in model.model.layers:
        layer.self_attn.q_proj = Own()
        layer.self_attn.q_proj.weight = torch.nn.Parameter(torch.randn(32, 32))
    wide = map_model(model)  # narrow: a seventh may be
    assert {each.reason for each in wide.exempt} == {
        "is multiplied outside of a linear layer's forward (Own)"
    }
    for layer in model.model.layers:
        layer.mlp.fc1 = Own()
        layer.mlp.fc1.weight = torch.nn.Parameter(torch.randn(48, 32))
    with pytest.raises(SparsityError) as caught:
        map_model(model)
    assert str(caught.value) == (
        "PhiForCausalLM cannot be sparsified: it is mapped in part only, 42% of the weights of its "
        "decoder blocks are no linear layer's: 0.mlp.fc1.weight is multiplied outside of a linear "
        "layer's forward (Own); use a model that is built from torch.nn.Linear layers"
    )


def test_an_encoder_of_images_is_not_taken_for_the_decoder() -> None:
    text = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    vision = {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "mlp_dim": 48,
        "num_attention_heads": 4,
        "image_size": 64,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    config = transformers.GotOcr2Config(
        vision_config=vision, text_config={"model_type": "qwen2", **text}, image_token_id=98
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    sites = map_model(model).sites
    inside = {id(m) for m in model.model.language_model.modules()}
    assert len(sites) == 14
    assert all(id(site.module) in inside for site in sites)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("self_attn.q_proj", "q"),
        ("self_attn.gate_proj", "proj"),
        ("mlp.experts.gate_up_proj.3", "gate_up"),
        ("feed_forward.w2", "down"),
        ("mamba.in_proj", "in"),
        ("mixer.down_proj", "down"),
        ("self_attn.out_proj", "o"),
        ("linear_attn.out_proj", "out"),
        ("laurel.linear_left", "proj"),
        ("encoder_attn.q_proj", "proj"),
        ("fc1", "up"),
    ],
)
def test_kinds_by_name(path: str, kind: str) -> None:
    assert kind_of_path(path) == kind
