from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import load_model
from pytest_sparsity.models.tokens import (
    check_tokens,
    check_vocabulary,
    leading_tokens,
    obey_gguf,
    position_limit,
    text_tokens,
    tokens_hash,
)


def tokenizer_of(
    vocabulary: dict[str, int], first: tuple[str, ...] = (), unknown: str | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that puts ``first`` before every text."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown or "no such token"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([word for word in vocabulary if word.startswith("<")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*first, "$A"], special_tokens=[(word, vocabulary[word]) for word in first]
    )
    made: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)
    return made


SPECIAL = {"<s>": 4, "<mask>": 5}


@pytest.mark.parametrize("words", [{"a": 0, "b": 1}, {"x": 0, "y": 1}, {"é": 0}])
@pytest.mark.parametrize("first", [(), ("<s>",), ("<mask>", "<s>"), ("<s>", "<s>")])
def test_first_tokens_are_what_the_tokenizer_puts_there(
    words: dict[str, int], first: tuple[str, ...]
) -> None:
    tokenizer = tokenizer_of({**words, **SPECIAL}, first)
    assert leading_tokens(tokenizer) == tuple(SPECIAL[word] for word in first)


def test_an_unknown_letter_is_not_taken_for_a_first_token() -> None:
    tokenizer = tokenizer_of({"x": 0, **SPECIAL}, ("<s>",), unknown="<s>")
    assert tokenizer("a")["input_ids"] == [4, 4]
    assert leading_tokens(tokenizer) == (4,)


def test_what_follows_a_text_is_not_before_it() -> None:
    tokenizer = tokenizer_of({"a": 0, **SPECIAL})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<mask> $A <s>", special_tokens=list(SPECIAL.items())
    )
    assert leading_tokens(tokenizer) == (5,)


def test_a_gguf_file_that_wants_no_bos_is_obeyed(tiny_gguf: Path) -> None:
    tokenizer: Any = tokenizer_of({"a": 0, **SPECIAL}, ("<s>",))
    tokenizer.add_bos_token = True
    obey_gguf(tokenizer, tiny_gguf)
    assert tokenizer.add_bos_token is False


def test_other_tokens_than_the_model_was_trained_on_are_one_sentence() -> None:
    tokenizer = load_model("tiny-random").tokenizer
    check_tokens(tokenizer, tokens_hash(tokenizer), "some")
    tokenizer.add_tokens(["best"])
    with pytest.raises(SparsityError, match=r"some: transformers .* cuts text into other tokens"):
        check_tokens(tokenizer, tokens_hash(load_model("tiny-random").tokenizer), "some")


def test_a_text_that_the_tokenizer_cannot_write_is_one_sentence(tiny: Any) -> None:
    model = replace(tiny, tokenizer=tokenizer_of({"x": 0, "y": 1}))
    assert text_tokens(model, "y x") == [1, 0]
    with pytest.raises(SparsityError) as caught:
        text_tokens(model, "x\n\nhello")
    said = str(caught.value)
    assert said.startswith(
        "--sparsity-model tiny-random: its tokenizer cannot write the text that begins 'x hello' ("
    )
    assert "\n" not in said
    assert "--sparsity-corpora" in said


def test_more_tokens_than_the_embedding_has_rows_are_one_sentence(tiny: Any) -> None:
    tokenizer = load_model("tiny-random").tokenizer
    check_vocabulary(tokenizer, 257, "some")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    check_vocabulary(tokenizer, 257, "some")  # no text has it
    model = replace(tiny, tokenizer=tokenizer)
    assert text_tokens(model, "PAD") == [*map(tokenizer.convert_tokens_to_ids, "PAD")]
    with pytest.raises(
        SparsityError, match=r"gives token 257 \('\[PAD\]'\) in the text .* 257 rows"
    ):
        text_tokens(model, "a [PAD]")
    tokenizer.add_tokens(["best"])
    with pytest.raises(
        SparsityError, match=r"some: its tokenizer has token 258 \('best'\), but its "
    ):
        check_vocabulary(tokenizer, 257, "some")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mpt", "gemma3"])
def test_the_number_of_positions_is_that_of_the_part_for_text(kind: str) -> None:
    model = load_model(f"tiny:{kind}", dtype="float32")
    text = model.model.config.get_text_config()
    name = "max_seq_len" if kind == "mpt" else "max_position_embeddings"
    assert position_limit(model) == getattr(text, name) > 0
