"""What tokenizers make of texts: what they put before one, and what they cannot write."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pytest_sparsity.models.language_model import LanguageModel

_PROBES = 64  # tokens of a vocabulary that are tried as texts
#: How configurations call the number of positions: most, GPT-2's first form, MPT.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")


def leading_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that the tokenizer itself puts before every text: mostly BOS, or nothing."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    for text in _short_texts(tokenizer):
        try:
            plain: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            whole: list[int] = tokenizer(text)["input_ids"]
        except Exception:  # it cannot write this one
            continue
        # A special token of the text itself could not be told from those that are added.
        if not plain or special & set(plain):
            continue
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return tuple(whole[:start])
    return ()


def _short_texts(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """A letter, and for a vocabulary that lacks it, some of its own tokens."""
    yield "a"
    yield from itertools.islice(tokenizer.get_vocab(), _PROBES)


def text_tokens(model: LanguageModel, text: str) -> list[int]:
    """The tokens of a text, without any before or after it.

    Raises:
        SparsityError: the tokenizer cannot write the text, or the model has no embedding of one
            of its tokens.
    """
    begin = " ".join(text.split())[:40]
    try:
        found: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    except Exception as error:  # of the library beneath, or of the tokenizer's own code
        said = " ".join(str(error).split()) or type(error).__name__
        raise SparsityError(
            f"--sparsity-model {model.source}: its tokenizer cannot write the text that begins "
            f"{begin!r} ({said}); give texts in its own symbols with "
            "--sparsity-corpora, --sparsity-calibration and --sparsity-tasks, or a tokenizer with "
            "a token for what is unknown"
        ) from error
    embedding: Any = model.model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if found and max(found) >= rows:
        token = max(found)
        raise SparsityError(
            f"--sparsity-model {model.source}: its tokenizer gives token {token} "
            f"({model.tokenizer.convert_ids_to_tokens(token)!r}) in the text that begins "
            f"{begin!r}, but its embedding has {rows} rows; {_RESIZE}"
        )
    return found


_RESIZE = (
    "save the model after resize_token_embeddings(len(tokenizer)), or pass the tokenizer that it "
    "was trained with"
)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, source: str) -> None:
    """See that a model has an embedding of every token that plain text may give.

    Special tokens beyond it, such as one for padding, are let pass: no text has them.

    Args:
        tokenizer: of the model.
        rows: of its embedding.
        source: what was asked for, for the message.

    Raises:
        SparsityError: it lacks one.
    """
    if len(tokenizer) <= rows:
        return
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(n for n in added if added[n].special)}
    beyond = {
        token: number
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and number not in special
    }
    if beyond:
        token, number = min(beyond.items(), key=lambda pair: pair[1])
        raise SparsityError(
            f"--sparsity-model {source}: its tokenizer has token {number} ({token!r}), but its "
            f"embedding has {rows} rows; {_RESIZE}"
        )


#: Case, spaces, digits, line breaks, accents and a script that few vocabularies spell out.
_PROBE = 'It was the best of times. She said: "don\'t go  there"; 1, 23.\n\nNaïve café \u65e5\u672c'


def tokens_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hex SHA-256 over the tokens of a fixed text; over the vocabulary if it cannot write that."""
    try:
        tokens: list[int] = tokenizer(_PROBE)["input_ids"]
    except Exception:  # it has no token for what it does not know
        return sha256_text(*(f"{token} {n}" for token, n in sorted(tokenizer.get_vocab().items())))
    return sha256_text(*map(str, tokens))


def check_tokens(tokenizer: PreTrainedTokenizerBase, expected: str, name: str) -> None:
    """See that a known model's text is cut into the tokens it was trained on.

    Raises:
        SparsityError: this version of transformers reads the tokenizer differently.
    """
    if tokens_hash(tokenizer) != expected:
        import transformers

        raise SparsityError(
            f"--sparsity-model {name}: transformers {transformers.__version__} cuts text into "
            "other tokens than the model was trained on; install transformers 5 or another model"
        )


def obey_gguf(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Stop the tokenizer from adding BOS where the GGUF file at ``path`` says it must not.

    transformers 4 ignores what the file says about it.
    """
    import gguf

    if not leading_tokens(tokenizer):
        return
    field = gguf.GGUFReader(path).get_field("tokenizer.ggml.add_bos_token")
    if field is not None and not field.parts[field.data[0]][0]:
        switch: Any = tokenizer
        switch.add_bos_token = False


def position_limit(model: LanguageModel) -> int | None:
    """How many tokens a sequence may have, by the configuration for text; None for no limit."""
    config: Any = model.model.config.get_text_config()
    found = (getattr(config, name, None) for name in _POSITIONS)
    return next((each for each in found if isinstance(each, int) and each > 0), None)
