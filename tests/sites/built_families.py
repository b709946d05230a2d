"""Small models of families that are built in other ways than Llama, with what is found in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

#: Transformers 4 keeps most experts apart: gate, up and down of each are layers of their own.
APART = transformers.__version__ < "5"
_SMALL: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "max_position_embeddings": 128,
}
_ATTENTION = ["q", "k", "v", "o"]
_MLP = ["gate", "up", "down"]
_STACKED = [f"experts.{expert}.{kind}" for expert in range(4) for kind in ("gate_up", "down")]
_EXPERTS = (
    [f"experts.{expert}.{kind}" for expert in range(4) for kind in _MLP] if APART else _STACKED
)
_SHARED = [f"shared.{kind}" for kind in _MLP]
_NEXT = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

#: Name of the configuration's class, sizes, and the sites of each layer.
FAMILIES: dict[str, tuple[str, dict[str, Any], list[list[str]]]] = {
    "phi3": ("Phi3Config", {}, [["qkv", "gate_up", "o", "down"]] * 2),
    "phi": ("PhiConfig", {}, [["q", "k", "v", "o", "up", "down"]] * 2),
    "gptj": (
        "GPTJConfig",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
        [["q", "k", "v", "o", "up", "down"]] * 2,
    ),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4}, [[*_ATTENTION, *_EXPERTS]] * 2),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "mlp_only_layers": [0],
        },
        [[*_ATTENTION, *_MLP], [*_ATTENTION, *_EXPERTS]],
    ),
    "gpt_oss": (
        "GptOssConfig",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 8,
        },
        [[*_ATTENTION, *_STACKED]] * 2,
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 24,
            "first_k_dense_replace": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "num_key_value_heads": 4,
        },
        [
            ["q_a", "q_b", "kv_a", "kv_b", "o", *_MLP],
            ["q_a", "q_b", "kv_a", "kv_b", "o", *_SHARED, *_EXPERTS],
        ],
    ),
    "llama4": (
        "Llama4TextConfig",
        {
            "num_local_experts": 4,
            "intermediate_size_mlp": 40,
            "moe_layers": [1],
            "layer_types": ["full_attention"] * 2,
        },
        [[*_ATTENTION, *_MLP], [*_ATTENTION, *_SHARED, *_STACKED]],
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **_NEXT,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
            "layer_types": ["linear_attention", "full_attention"],
        },
        [
            [
                "out",
                "linear_attn.in_proj_qkvz.in",
                "linear_attn.in_proj_ba.in",
                *_SHARED,
                *_EXPERTS,
            ],
            [*_ATTENTION, *_SHARED, *_EXPERTS],
        ],
    ),
    "falcon_h1": (
        "FalconH1Config",
        {
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_n_groups": 1,
            "mamba_d_state": 8,
            "mamba_chunk_size": 8,
        },
        [[*_ATTENTION, *_MLP, "in", "out"]] * 2,
    ),
}


def config_of(family: str) -> Any:
    """Its configuration; the experts run as transformers calls eager."""
    name, own, _ = FAMILIES[family]
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    return getattr(transformers, name)(**{**_SMALL, **own})


def built(family: str, experts: str | None = None) -> Any:
    """A model with random weights, biases that are not 0, and float32.

    Args:
        family: one of ``FAMILIES``; without it in this transformers, the test is skipped.
        experts: the implementation of experts, of which transformers 4 has one.
    """
    torch.manual_seed(3)
    own = {"experts_implementation": experts} if experts and not APART else {}
    model = transformers.AutoModelForCausalLM.from_config(config_of(family), **own)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and name.endswith("bias"):
            parameter.data.normal_(std=0.1)
        elif parameter.ndim > 1:  # so that what is dropped is felt
            parameter.data.normal_(std=parameter.shape[-1] ** -0.5)
    return model.eval().requires_grad_(False)


def names_of(family: str) -> list[str]:
    """Its sites, in order."""
    return [f"{n}.{name}" for n, names in enumerate(FAMILIES[family][2]) for name in names]
