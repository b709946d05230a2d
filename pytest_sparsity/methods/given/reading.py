"""What the readers of other projects' files share: finding, loading, and saying what is wrong."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import no_repeats

#: The option that names the file or folder.
OPTION = "--sparsity-predictors"

#: What weights may be stored in; of others, float8 above all, torch cannot tell NaN everywhere.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: What may be counted in.
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

#: How a file begins that git left where Git LFS should have put the real one.
_POINTER = b"version https://git-lfs"

_FOREIGN = re.compile(r"Unsupported (?:global|class)\S* (?:GLOBAL )?([A-Za-z_][\w.]*)")

_AGAIN = "it may be damaged or cut off: copy or download it again"


def wrong(path: Path, what: str, fix: str) -> SparsityError:
    """The sentence for a file that is not what it should be."""
    return SparsityError(f"{OPTION}: {path} {what}; {fix}")


def candidates(path: Path, *patterns: str) -> list[Path]:
    """Files under a folder that match one of the glob ``patterns``, or ``path`` if it is a file.

    Hidden files are left out: copies from macOS bring a ``._model_0.pt`` for every ``model_0.pt``.
    """
    if not path.is_dir():
        return [path]
    found = {file for pattern in patterns for file in path.glob(pattern)}
    return sorted(file for file in found if not file.name.startswith(".") and not file.is_dir())


def numbered(files: Iterable[tuple[int, Path]], what: str) -> dict[int, Path]:
    """Layer to its file, in the order of the numbers: 10 after 9.

    Args:
        files: number of the layer and file, in any order.
        what: what a file holds, for the sentences.

    Raises:
        SparsityError: two files are of one layer, or a layer has none.
    """
    found: dict[int, Path] = {}
    for layer, file in sorted(files):
        if layer in found:
            raise wrong(
                file.parent,
                f"holds {what} of layer {layer} twice, in {found[layer]} and {file}",
                "leave one of them there",
            )
        found[layer] = file
    for expected, layer in enumerate(found):
        if layer != expected:
            raise wrong(
                found[layer].parent,
                f"holds {what} of layer {layer}, but not of layer {expected}",
                "put the missing file there: layers are counted from 0 without gaps",
            )
    return found


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU; no code of the file is run.

    Raises:
        SparsityError: it cannot be read, is damaged, or holds objects that are not tensors.
    """
    try:
        with path.open("rb") as stream:
            beginning = stream.read(len(_POINTER))
        if beginning == _POINTER:
            raise wrong(
                path,
                "is a pointer of Git LFS and not the file itself",
                "run 'git lfs pull' in that repository, or download the file",
            )
        with warnings.catch_warnings():
            # Of what writes such files: an unusual pickle protocol, an old kind of storage.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except SparsityError:
        raise
    except PermissionError as error:
        raise wrong(path, f"cannot be read ({error.strerror})", "fix its permissions") from error
    except FileNotFoundError as error:
        raise wrong(path, f"cannot be read ({error.strerror})", "put the file there") from error
    # torch raises whatever the damage leads to: EOFError, KeyError, RuntimeError, OSError ...
    except Exception as error:
        if foreign := _FOREIGN.search(str(error)):
            raise wrong(
                path,
                f"holds a {foreign[1]}, and only plain tensors are loaded, as others can run code",
                "save a plain dictionary of tensors, such as a state_dict, with torch.save",
            ) from error
        raise wrong(path, "is not a file of tensors that torch.load can read", _AGAIN) from error


def tensors(path: Path, names: Iterable[str], *, exactly: bool) -> dict[str, Any]:
    """What a file holds under ``names``, in their order.

    Args:
        path: of a dictionary that ``torch.save`` wrote.
        names: what must be in it.
        exactly: whether nothing else may be.

    Raises:
        SparsityError: the file is no such dictionary; the sentence names what is missing or
            too much.
    """
    content, names = load(path), list(names)
    if not isinstance(content, Mapping):
        raise wrong(
            path,
            f"holds a {type(content).__name__} and no dictionary",
            f"save one with {' and '.join(names)} in it with torch.save",
        )
    if missing := [name for name in names if name not in content]:
        raise wrong(
            path,
            f"has no {' and no '.join(missing)}; it has {_listed(content)}",
            f"save {' and '.join(names)} there",
        )
    if exactly and (more := [name for name in content if name not in names]):
        raise wrong(
            path,
            f"holds {_listed(more)} besides {' and '.join(names)}, of which the engine that such "
            "files are made for knows nothing",
            "give a predictor without it",
        )
    return {name: content[name] for name in names}


def checked(
    path: Path, name: str, found: object, axes: int, *, integers: bool = False
) -> torch.Tensor:
    """A tensor from a file, detached and contiguous, in the dtype in which it is stored.

    Args:
        path: of the file.
        name: of the tensor in it, for the sentences.
        found: what stands there.
        axes: how many it must have.
        integers: whether whole numbers are as good as floating point.

    Raises:
        SparsityError: it is something else, or empty, or a value is NaN or infinite.
    """
    if not isinstance(found, torch.Tensor) or found.layout is not torch.strided or found.is_meta:
        kind = type(found).__name__
        raise wrong(path, f"has no plain tensor {name} (a {kind})", "save a dense tensor there")
    if found.dtype not in (*FLOATS, *(_INTEGERS if integers else ())):
        wanted = "numbers are" if integers else "floating point is"
        raise wrong(
            path,
            f"has {name} in {str(found.dtype).removeprefix('torch.')}, and {wanted} needed",
            "convert it, to float32 for example",
        )
    if found.ndim != axes or not found.numel():
        raise wrong(
            path,
            f"has {name} of shape {list(found.shape)}, and {axes} "
            f"{'axis' if axes == 1 else 'axes'} and at least one value are needed",
            "give the file that belongs there",
        )
    if not bool(torch.isfinite(found).all()):
        count = int((~torch.isfinite(found)).sum())
        raise wrong(
            path,
            f"has {count} values in {name} that are NaN or infinite",
            "it is damaged, or its training diverged: make it again",
        )
    return found.detach().contiguous()


def low_rank(path: Path, names: tuple[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Both matrices of one layer's predictor: [R, H] and [I, R], floating point as stored.

    Raises:
        SparsityError: the file holds something else, a bias for example.
    """
    found = tensors(path, names, exactly=True)
    first, second = (checked(path, name, found[name], axes=2) for name in names)
    if first.shape[0] != second.shape[1]:
        raise wrong(
            path,
            f"has {names[0]} of shape {list(first.shape)} and {names[1]} of shape "
            f"{list(second.shape)}, of which {first.shape[0]} and {second.shape[1]} should be "
            "the same rank",
            "give both matrices of one predictor",
        )
    return first, second


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file.

    Raises:
        SparsityError: it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=no_repeats)
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise wrong(path, f"cannot be read ({said})", "mend or remove it") from error
    if not isinstance(content, Mapping):
        raise wrong(
            path,
            f"holds a {type(content).__name__} where an object should be",
            "mend or remove it",
        )
    return content


def is_finite(value: object) -> bool:
    """Whether a value from JSON is a number that a float can hold, neither NaN nor infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _listed(names: Iterable[object]) -> str:
    """Names for a sentence, as few as are of use in it."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
    return (", ".join(shown[:6]) or "nothing") + more
