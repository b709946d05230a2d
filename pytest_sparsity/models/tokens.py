"""What versions of transformers disagree about when they read a tokenizer from GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def leading_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token the tokenizer itself puts before every text, ``None`` if there is none."""
    first: int = tokenizer("a")["input_ids"][0]
    return first if first == tokenizer.bos_token_id else None


#: Case, spaces, digits, line breaks, accents and a script that few vocabularies spell out.
_PROBE = 'It was the best of times. She said: "don\'t go  there"; 1, 23.\n\nNaïve café \u65e5\u672c'


def tokens_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hex SHA-256 over the tokens of a fixed text."""
    return sha256_text(*map(str, tokenizer(_PROBE)["input_ids"]))


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

    if leading_bos(tokenizer) is None:
        return
    field = gguf.GGUFReader(path).get_field("tokenizer.ggml.add_bos_token")
    if field is not None and not field.parts[field.data[0]][0]:
        switch: Any = tokenizer
        switch.add_bos_token = False
