"""A ReLU model in a GGUF file, whose keys cannot say so."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import corpus
from pytest_sparsity.models import assumed, load_model
from pytest_sparsity.models.assumed import PASSAGE, check_activation, fits_relu_better
from pytest_sparsity.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
GENERATOR = torch.Generator().manual_seed(11)
NOISE = torch.randn(250, generator=GENERATOR)


@pytest.mark.parametrize(
    ("plain", "relu", "expected"),
    [
        (3.0 + NOISE, 2.8 + NOISE + 0.1 * NOISE.flip(0), True),
        (3.0 + NOISE, 2.8 + NOISE.flip(0), False),  # a gain within the noise of the pairs
        (2.8 + NOISE, 3.0 + NOISE, False),
        (3.0 + NOISE, 3.0 + NOISE, False),
        (7.0 + NOISE, 5.0 + NOISE, False),  # better than nothing, and yet a guess
        (3.0 + NOISE, torch.full((250,), float("nan")), False),
        (torch.tensor([3.0]), torch.tensor([2.0]), False),  # one token has no error
    ],
)
def test_the_decision_is_about_paired_differences(
    plain: torch.Tensor, relu: torch.Tensor, expected: bool
) -> None:
    assert fits_relu_better(plain, relu, 257) == expected


def test_the_decision_is_made_at_four_errors_and_a_nat() -> None:
    pair = torch.tensor([-1.0, 1.0]).repeat(200)
    error = float(pair.std()) / 20
    for size, expected in ((3.9, False), (4.1, True)):
        assert fits_relu_better(2.0 + size * error + pair, torch.full((400,), 2.0), 257) == expected
    for below, expected in ((0.99, False), (1.01, True)):
        level = torch.full((400,), math.log(257) - below)
        assert fits_relu_better(level + 1 + pair, level, 257) == expected


def bigrams(act: str) -> Any:
    """A Llama that knows which byte follows which, by MLPs that need ``act``; not trained.

    Token t is the t-th unit vector, and neuron j's gate is for token j: with ReLU, positive for
    it and negative for all others; with SiLU, negative for it and 0 for all others.
    """
    hidden, neurons = 260, 257
    config = transformers.LlamaConfig(
        vocab_size=257,
        hidden_size=hidden,
        intermediate_size=neurons,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        hidden_act=act,
        max_position_embeddings=2048,
    )
    model: Any = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    text = "\n\n".join(each.text for each in corpus("austen", "calibration").documents[:100])
    tokens = torch.tensor(tiny_tokenizer()(text)["input_ids"])
    counts = torch.full((257, 257), 0.1)
    counts.index_put_((tokens[:-1], tokens[1:]), torch.ones(()), accumulate=True)
    table = (counts / counts.sum(1, keepdim=True)).log()
    table = table - table.mean(1, keepdim=True)
    unit = torch.eye(neurons, hidden)
    low = -1.28  # where SiLU is lowest, and as far from ReLU as it gets
    block, scale = model.model.layers[0], hidden**0.5  # what a norm makes of a unit vector
    if act == "relu":
        gate, active = (low + (1 - low) * unit) / scale, 1.0
    else:
        gate, active = low * unit / scale, low * torch.sigmoid(torch.tensor(low)).item()
    block.mlp.gate_proj.weight.copy_(gate)
    block.mlp.up_proj.weight.copy_(torch.ones(neurons, hidden) / scale)
    down = torch.zeros(hidden, neurons)
    down[:257] = 50 * table.t() / active  # far more than the token's own vector, which stays
    block.mlp.down_proj.weight.copy_(down)
    block.self_attn.o_proj.weight.zero_()
    model.model.embed_tokens.weight.copy_(unit)
    model.model.norm.weight.fill_(float(table.pow(2).mean() ** 0.5))
    model.lm_head.weight.copy_(unit)
    return model


def computed_with(act: str, model: Any) -> Any:
    """The same weights with another activation."""
    other = copy.deepcopy(model)
    for layer in other.model.layers:
        layer.mlp.act_fn = transformers.activations.ACT2FN[act]
    return other


def test_weights_of_relu_are_told_from_those_of_silu() -> None:
    tokenizer = tiny_tokenizer()
    model = computed_with("silu", bigrams("relu"))
    with pytest.raises(SparsityError) as caught:
        check_activation(model, tokenizer, "x.gguf")
    message = str(caught.value)
    assert message.startswith("--sparsity-model x.gguf: GGUF does not say which activation")
    assert "of English with ReLU but" in message
    assert message.endswith("config.json says hidden_act 'relu', or a .powerinfer.gguf")
    assert "\n" not in message
    silu = [m for m in model.modules() if "silu" in type(m).__name__.lower()]
    assert len(silu) == 1  # it is left as it was
    check_activation(bigrams("relu"), tokenizer, "x.gguf")
    check_activation(bigrams("silu"), tokenizer, "x.gguf")


@pytest.mark.parametrize("family", ["llama", "gemma3", "falcon", "gpt2", "gpt_neox", "qwen3"])
def test_random_weights_are_never_accused(family: str, small_model: Any) -> None:
    model = small_model(family)
    assert assumed._activations(model.model)  # or the test would be about nothing
    check_activation(model.model, model.tokenizer, "x.gguf")


def write_gguf(path: Path, model: Any, engine_files: ModuleType) -> Path:
    """As llama.cpp's converter does: without predictors, and with down as it is."""

    def dense(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            if name.endswith("ffn_down_t.weight"):
                tensors[name.replace("down_t", "down")] = tensors.pop(name).T
            elif ".fc" in name:
                del tensors[name]

    made: Path = engine_files.write_engine_file(path, model, "llama", magic=b"GGUF", tensors=dense)
    return made


def test_a_gguf_file_of_a_relu_llama_is_refused(engine_files: ModuleType, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "relu.gguf", bigrams("relu"), engine_files)
    with pytest.raises(SparsityError, match=r"--sparsity-model relu\.gguf: GGUF does not say"):
        load_model(str(path), cache=tmp_path)
    assert not [p for p in (tmp_path / "models").iterdir() if p.suffix != ".lock"]


def test_a_gguf_file_of_a_silu_llama_is_not(engine_files: ModuleType, tmp_path: Path) -> None:
    model = bigrams("silu")
    path = write_gguf(tmp_path / "silu.gguf", model, engine_files)
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        found, expected = loaded.model(ids).logits, model(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("assumed_act", ["silu", "gelu"])
def test_a_relu_model_of_another_family_is_told_too(assumed_act: str) -> None:
    relu = load_model("relu-4m", dtype="float32")
    assert len(relu.tokenizer(PASSAGE)["input_ids"]) > 500
    check_activation(relu.model, relu.tokenizer, "x.gguf")
    # The shipped model, which has no gate, as if transformers took its activation for another.
    model = computed_with(assumed_act, relu.twin().model)
    with pytest.raises(SparsityError, match=r"with \w+, which transformers would compute; pass a"):
        check_activation(model, relu.tokenizer, "x.gguf")
