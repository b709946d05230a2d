"""What a folder with a model must hold, and the hashes that name what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_file, sha256_text

#: Files beside the weights that say what these do: configurations, tokenizer, chat template.
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja")
#: Predictors of neurons that came with the model: a companion, and no part of its weights.
PREDICTORS = "predictors.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")


def check_folder(folder: Path, name: str) -> None:
    """See that ``folder`` has a configuration, weights and a tokenizer.

    Args:
        folder: where the model is.
        name: what the user called it, for the message.

    Raises:
        SparsityError: one of the three is missing.
    """
    missing = None
    if not (folder / "config.json").is_file():
        missing = "no config.json"
    elif not weight_files(folder):
        missing = "no weights (*.safetensors or pytorch_model*.bin)"
    elif not any((folder / file).is_file() for file in _TOKENIZERS):
        missing = f"no tokenizer (one of {', '.join(_TOKENIZERS)})"
    if missing:
        raise SparsityError(
            f"--sparsity-model {name}: the folder has {missing}; pass a folder written by "
            "save_pretrained of both the model and its tokenizer"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files transformers reads weights from: safetensors where there are any."""
    tensors = sorted(path for path in folder.glob("*.safetensors") if path.name != PREDICTORS)
    return tensors or sorted(folder.glob("pytorch_model*.bin"))


def weights_hash(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the folder's weight files."""
    return combined_hash({path.name: sha256_file(path) for path in weight_files(folder)})


def network_hash(folder: Path) -> str:
    """Hex SHA-256 over the files that say what the weights do: configuration and tokenizer."""
    found = (path for pattern in _DESCRIPTIONS for path in folder.glob(pattern))
    return combined_hash({path.name: sha256_file(path) for path in found if path.is_file()})


def combined_hash(hashes: Mapping[str, str]) -> str:
    """Hex SHA-256 over (name, hash) pairs in the order of their names."""
    return sha256_text(*(text for pair in sorted(hashes.items()) for text in pair))
