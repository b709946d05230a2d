"""PowerInfer's predictors: a folder of ``model_{i}.pt``, as its converters read it.

A neuron's score is fc2 relu(fc1 v), without biases and sigmoid, and it is computed iff the score
reaches the threshold.  Source: ``ReluMLP``, ``load_predictor_model`` and ``PredictorParams`` in
``convert-hf-to-powerinfer-gguf.py`` and ``convert.py`` of SJTU-IPADS/PowerInfer.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.given.reading import (
    FLOATS,
    candidates,
    is_finite,
    low_rank,
    numbered,
    read_json,
    wrong,
)

#: Names of the matrices, [R, H] and [I, R].
NAMES = ("fc1.weight", "fc2.weight")

#: The one key of ``config.json`` that counts.
THRESHOLD = "sparse_threshold"

_NAME = re.compile(r"model_(\d+)\.pt")

#: What the converter for Llama knows (``LazyUnpickler``); float64 it refuses.
_WRITABLE = FLOATS[:3]


def find(path: Path) -> dict[int, Path]:
    """Layer to its file, of a folder or of one such file; empty if there is none.

    Raises:
        SparsityError: a layer has no file, or two.
    """
    names = [(_NAME.fullmatch(file.name), file) for file in candidates(path, "*.pt")]
    return numbered([(int(m[1]), file) for m, file in names if m], "PowerInfer's predictor")


def read_layer(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's fc1 [R, H] and fc2 [I, R], on the CPU, floating point as stored.

    Raises:
        SparsityError: the file holds something else; biases, too, which the engine has not.
    """
    return low_rank(path, NAMES)


def read_threshold(path: Path) -> float | None:
    """What ``config.json`` says, which may be negative; None if it says nothing.

    Raises:
        SparsityError: it says something that is no finite number.
    """
    found = read_json(path).get(THRESHOLD)
    if found is None:
        return None
    if not is_finite(found):
        raise wrong(
            path,
            f"has {THRESHOLD} {found!r}, and a finite number is needed",
            "write one, or leave it out for the engine's default, 0",
        )
    return float(found)


def write_predictors(
    folder: Path,
    layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
    threshold: float | None = None,
) -> None:
    """Write what PowerInfer's converters take as their predictor folder.

    Args:
        folder: made if it is missing.
        layers: layer, from 0 without gaps, to fc1 [R, H] and fc2 [I, R], float16, bfloat16 or
            float32, kept as they are.
        threshold: for ``config.json``; None writes none, and the engine takes 0.

    Raises:
        ValueError: the layers are not like that.
        SparsityError: the folder cannot be written, or holds other predictors already, which
            would be read together with these.
    """
    if sorted(layers) != list(range(len(layers))):
        raise ValueError(f"layers must be counted from 0 without gaps, not {sorted(layers)}")
    for layer, (first, second) in layers.items():
        if (
            first.ndim != 2
            or second.ndim != 2
            or first.shape[0] != second.shape[1]
            or first.dtype not in _WRITABLE
            or second.dtype not in _WRITABLE
        ):
            raise ValueError(
                f"layer {layer}: [R, H] and [I, R] in half or single precision are needed, not "
                f"{list(first.shape)} {first.dtype} and {list(second.shape)} {second.dtype}"
            )
    known = {f"model_{layer}.pt" for layer in layers}
    known |= {"config.json"} if threshold is not None else set()
    # The converter counts the .pt files of the folder, whatever their names are.
    if folder.is_dir() and (
        others := sorted(
            file.name
            for file in folder.iterdir()
            if (file.suffix == ".pt" or file.name == "config.json") and file.name not in known
        )
    ):
        raise SparsityError(
            f"cannot write predictors to {folder}: {others[0]} is there already and would be "
            "taken for a part of them; choose an empty folder"
        )
    for layer, pair in layers.items():
        atomic_write(
            folder / f"model_{layer}.pt",
            saved({name: plain(tensor) for name, tensor in zip(NAMES, pair, strict=True)}),
        )
    if threshold is not None:
        atomic_write(folder / "config.json", json.dumps({THRESHOLD: threshold}) + "\n")


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, no parameter and no view: the converters can read nothing else."""
    return tensor.detach().cpu().contiguous().clone()


def saved(content: object) -> bytes:
    """The bytes that ``torch.save`` writes for ``content``."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()
