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
    PreTrainedModel,
)

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import LanguageModel, load_model
from pytest_sparsity.models.backbone import find_sites
from pytest_sparsity.models.tiny import tiny_tokenizer


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """Gated SiLU: no neuron is ever exactly zero."""
    return load_model("tiny-random", dtype="float32")


def _wrap(network: PreTrainedModel, name: str) -> LanguageModel:
    network.eval().requires_grad_(False)
    return LanguageModel(
        name=name,
        source=name,
        model=network,
        tokenizer=tiny_tokenizer(),
        weights_hash=name,
        dtype=torch.float32,
        sites=find_sites(network),
    )


def _llama(activation: str) -> LanguageModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_act=activation,
    )
    return _wrap(LlamaForCausalLM(config), f"llama-{activation}")


@pytest.fixture(scope="session")
def relu_model() -> LanguageModel:
    """Gated ReLU, random weights: half of the neurons are zero."""
    return _llama("relu")


@pytest.fixture
def gemma_model() -> LanguageModel:
    """A norm stands behind every MLP; random weights of another size in every norm."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    made = _wrap(Gemma3ForCausalLM(config), "gemma-tiny")
    for layer in made.decoder.layers:
        layer.post_feedforward_layernorm.weight.normal_()
    return made


@pytest.fixture(scope="session")
def opt_model() -> LanguageModel:
    """ReLU without a gate, with biases."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=257,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=256,
        bos_token_id=256,
        eos_token_id=256,
    )
    return _wrap(OPTForCausalLM(config), "opt")


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
