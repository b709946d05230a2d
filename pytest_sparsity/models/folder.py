"""What a folder with a model must hold, and the hashes that name what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import no_repeats, sha256_file, sha256_text

#: Files beside the weights that say what these do: configurations, tokenizer, chat template.
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja")
#: Predictors of neurons that came with the model: a companion, and no part of its weights.
PREDICTORS = "predictors.safetensors"
#: Adapters: one file, several, or a configuration that points to weights elsewhere.
_ADAPTERS = ("adapter_model*", "adapter_config.json", "adapter.bin", "adapter.safetensors")
#: How files begin that stand for those that Git LFS has not fetched.
_POINTER = b"version https://git-lfs"
#: What transformers looks for, in this order, each as one file or as an index of several.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")


def check_folder(folder: Path, name: str) -> None:
    """See that ``folder`` has a configuration, weights and a tokenizer.

    Args:
        folder: where the model is.
        name: what the user called it, for the message.

    Raises:
        SparsityError: one of the three is missing, or a file is none.
    """
    check_no_pointers(folder, name)
    missing = None
    if not (folder / "config.json").is_file():
        missing = "no config.json"
    elif not weight_files(folder):
        missing = "no weights (model.safetensors, pytorch_model.bin or the index of either)"
        if others := stray_files(folder):
            missing += f"; {', '.join(others[:3])} would not be read"
    elif not any((folder / file).is_file() for file in _TOKENIZERS):
        missing = f"no tokenizer (one of {', '.join(_TOKENIZERS)})"
    if missing:
        raise SparsityError(
            f"--sparsity-model {name}: the folder has {missing}; pass a folder written by "
            "save_pretrained of both the model and its tokenizer"
        )


def check_no_pointers(folder: Path, name: str) -> None:
    """See that files are what they are called, and not what Git LFS puts in their place.

    Raises:
        SparsityError: one is a pointer to a file that was not fetched.
    """
    for pattern in (*_DESCRIPTIONS, "*.safetensors", "*.bin"):
        for path in sorted(folder.glob(pattern)):
            if is_pointer(path):
                raise SparsityError(
                    f"--sparsity-model {name}: {path.name} is a pointer of Git LFS and not the "
                    "file; run `git lfs pull` in the folder, or download the file"
                )


def is_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS puts in the place of a large one; no if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from: of safetensors where there are any.

    One file, or else those that an index names; whatever lies beside them is not read.

    Raises:
        SparsityError: an index cannot be read, or a file that it names is not there.
    """
    for file in _WEIGHTS:
        if (folder / file).exists():
            return [folder / file]
        index = folder / f"{file}.index.json"
        if index.is_file():
            return _indexed(index)
    return []


def _indexed(index: Path) -> list[Path]:
    try:
        said = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=no_repeats)
        names = sorted({str(Path(name).name) for name in said["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SparsityError(
            f"--sparsity-model: {index} is no index of weights ({error}); write the folder again "
            "with save_pretrained, or download it again"
        ) from error
    files = [index.with_name(name) for name in names]
    if lacking := [path.name for path in files if not path.exists()]:
        raise SparsityError(
            f"--sparsity-model: {index} names {', '.join(lacking[:3])}, which "
            f"{'is' if len(lacking) == 1 else 'are'} not in the folder; download the rest of it"
        )
    return files


def stray_files(folder: Path) -> list[str]:
    """Names of files with weights that are not read, and are no copy in another format."""
    read = {path.name for path in weight_files(folder)}
    found = {path.name for path in folder.glob("*.safetensors")}
    if not any(name.endswith(".safetensors") for name in read):
        found |= {path.name for path in folder.glob("pytorch_model*.bin")}
    return sorted(
        name
        for name in found - read - {PREDICTORS}
        if not name.startswith(("consolidated", "adapter_"))  # Mistral's own format; see adapters
    )


def adapters(folder: Path) -> list[str]:
    """Names of files with adapters (PEFT), which change what the weights beside them compute."""
    found = {path.name for pattern in _ADAPTERS for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def adapters_below(folder: Path) -> list[str]:
    """Paths of files with adapters in its sub-folders, which transformers does not look into."""
    found = {path for pattern in _ADAPTERS for path in folder.glob(f"*/**/{pattern}")}
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def weights_hash(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the folder's weight files."""
    return combined_hash({path.name: sha256_file(path) for path in weight_files(folder)})


def network_hash(folder: Path, *, code: bool = False) -> str:
    """Hex SHA-256 over the files that say what the weights do: configuration and tokenizer.

    Args:
        folder: with the model.
        code: whether its own code is run, which then is one of them.
    """
    patterns = [*_DESCRIPTIONS, *(["*.py"] if code else [])]
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return combined_hash({path.name: sha256_file(path) for path in found if path.is_file()})


def combined_hash(hashes: Mapping[str, str]) -> str:
    """Hex SHA-256 over (name, hash) pairs in the order of their names."""
    return sha256_text(*(text for pair in sorted(hashes.items()) for text in pair))
