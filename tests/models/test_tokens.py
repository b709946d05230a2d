from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import load_model
from pytest_sparsity.models.tokens import check_tokens, leading_bos, obey_gguf, tokens_hash


class Adding:
    """A tokenizer that puts token 0 first unless it is told not to."""

    bos_token_id = 0
    add_bos_token = True

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [0] * self.add_bos_token + [ord(letter) for letter in text]}


def test_bos_is_what_the_tokenizer_puts_first() -> None:
    tokenizer: Any = Adding()
    assert leading_bos(tokenizer) == 0
    tokenizer.add_bos_token = False
    assert leading_bos(tokenizer) is None


def test_a_gguf_file_that_wants_no_bos_is_obeyed(tiny_gguf: Path) -> None:
    tokenizer: Any = Adding()
    obey_gguf(tokenizer, tiny_gguf)
    assert leading_bos(tokenizer) is None


def test_other_tokens_than_the_model_was_trained_on_are_one_sentence() -> None:
    tokenizer = load_model("tiny-random").tokenizer
    check_tokens(tokenizer, tokens_hash(tokenizer), "some")
    tokenizer.add_tokens(["best"])
    with pytest.raises(SparsityError, match=r"some: transformers .* cuts text into other tokens"):
        check_tokens(tokenizer, tokens_hash(load_model("tiny-random").tokenizer), "some")
