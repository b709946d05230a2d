"""What a few tokens tell of a model when it is loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import load_model
from pytest_sparsity.models.forward import hidden_states, logits, trial_tokens
from pytest_sparsity.sweep.load_checks import check_loaded

FAMILIES = ["llama", "qwen3", "gemma2", "gemma3", "opt", "gpt_neox", "gpt2", "arcee"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_can_be_measured_pass(
    small_model: Any, family: str, dtype: torch.dtype
) -> None:
    check_loaded(small_model(family).twin(dtype))


@pytest.mark.parametrize("family", ["mamba", "mamba2", "falcon_mamba"])
def test_a_residual_stream_in_float32_is_rounded_before_the_head(family: str) -> None:
    model = load_model(f"tiny:{family}", dtype="bfloat16")
    tokens = trial_tokens(model)
    hidden = hidden_states(model, tokens)
    assert hidden.dtype == torch.float32
    check_loaded(model)
    with torch.inference_mode():
        plain = model.model(input_ids=tokens[None]).logits[0]
    assert torch.equal(logits(model, hidden).float(), plain.float())


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 10])
def test_a_vocabulary_of_few_symbols_is_enough(small_model: Any, rows: int) -> None:
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    model = small_model("llama", vocab_size=rows, **ends)
    assert len(trial_tokens(model)) == 8
    check_loaded(model)


def test_the_tokens_that_models_are_tried_on_stay(tiny: Any) -> None:
    assert trial_tokens(tiny).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_model_that_sees_later_tokens_is_no_decoder(small_model: Any) -> None:
    model = small_model("llama").twin()
    for layer in model.model.model.layers:
        layer.self_attn.forward = _seeing_all(layer.self_attn.forward)
    with pytest.raises(
        SparsityError, match=r"LlamaForCausalLM change with the tokens that follow, "
    ):
        check_loaded(model)


def test_a_model_whose_decoder_fails_alone_is_one_sentence(
    small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any) -> None:
        raise RuntimeError("expected m1 and m2 to have the same dtype")

    monkeypatch.setattr("pytest_sparsity.models.forward.hidden_states", failing)
    with pytest.raises(
        SparsityError,
        match=r"^--sparsity-model .*: LlamaForCausalLM fails on eight tokens: expected m1.*; try ",
    ):
        check_loaded(small_model("llama"))


def _seeing_all(forward: Any) -> Any:
    def call(*, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        out, *rest = forward(hidden_states=hidden_states, **kwargs)
        return (out + 0.1 * hidden_states.mean(1, keepdim=True), *rest)

    return call


def test_an_encoder_is_one_sentence(wrapped: Any) -> None:
    config = transformers.BertConfig(
        vocab_size=257,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    )
    torch.manual_seed(3)
    model = wrapped(transformers.BertLMHeadModel(config), "some-bert")
    with pytest.raises(
        SparsityError, match=r"^--sparsity-model some-bert: .* as an encoder's do; pa"
    ):
        check_loaded(model)


def test_a_site_whose_hook_changes_something_is_found(tiny: Any) -> None:
    class Noting(torch.nn.Linear):
        """Computes something else where it is hooked."""

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = super().__call__(x)
            return y + 1e-3 if self._forward_pre_hooks else y

    model = tiny.twin()
    layer = model.sites[3].module
    layer.__class__ = Noting
    with pytest.raises(
        SparsityError, match=r"hooked and nothing skipped is off by up to \S+ from it"
    ):
        check_loaded(model)
