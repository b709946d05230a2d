"""Models and calibrations small enough to be made for every test session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import LanguageModel, load_model

SIZES = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """Gated SiLU: no neuron is ever exactly zero."""
    return load_model("tiny-random", dtype="float32")


@pytest.fixture(scope="session")
def relu_model(wrapped: Callable[..., LanguageModel]) -> LanguageModel:
    """Gated ReLU, random weights: half of the neurons are zero."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, intermediate_size=72, num_key_value_heads=2, hidden_act="relu")
    return wrapped(LlamaForCausalLM(config), "llama-relu")


@pytest.fixture
def gemma_model(wrapped: Callable[..., LanguageModel]) -> LanguageModel:
    """A norm stands behind every MLP; random weights of another size in every norm."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(**SIZES, intermediate_size=72, num_key_value_heads=2, head_dim=8)
    made = wrapped(Gemma3ForCausalLM(config), "gemma-tiny")
    for layer in made.decoder.layers:
        layer.post_feedforward_layernorm.weight.normal_()
    return made


@pytest.fixture(scope="session")
def opt_model(wrapped: Callable[..., LanguageModel]) -> LanguageModel:
    """ReLU without a gate, with biases."""
    torch.manual_seed(0)
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 256)
    config = OPTConfig(
        **SIZES, **ends, word_embed_proj_dim=32, ffn_dim=72, max_position_embeddings=256
    )
    return wrapped(OPTForCausalLM(config), "opt")


@pytest.fixture(scope="session")
def documents() -> list[torch.Tensor]:
    """Eight of 48 tokens, different from each other."""
    lot = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (48,), generator=lot) for _ in range(8)]


@pytest.fixture
def calibrator(model: LanguageModel, documents: list[torch.Tensor]) -> Callable[..., Calibrator]:
    """Makes a calibrator in memory."""

    def make(of: LanguageModel = model, prefill: PrefillPolicy = FIRST_TOKEN_DENSE) -> Calibrator:
        return Calibrator(of, documents, prefill)

    return make
