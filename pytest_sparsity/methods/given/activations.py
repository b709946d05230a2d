"""How often neurons were active: PowerInfer's ``activation_{i}.pt``, one bare tensor each.

Source: ``powerinfer-py/powerinfer/solver.py`` and ``export_split.py`` of SJTU-IPADS/PowerInfer,
which only sort and add them, so that counts and shares are the same to it; a comment there calls
them counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.given.powerinfer import plain, saved
from pytest_sparsity.methods.given.reading import candidates, checked, load, numbered, wrong

_NAME = re.compile(r"activation_(\d+)\.pt")


def find(path: Path) -> dict[int, Path]:
    """Layer to its file, of a folder, its folder ``activation``, or one such file.

    Numbers are sorted as numbers; ``export_split.py`` sorts them as text, which gives layer 2
    the statistics of layer 10.

    Raises:
        SparsityError: a layer has no file, or two.
    """
    files = candidates(path, "activation_*.pt", "activation/activation_*.pt")
    names = [(_NAME.fullmatch(file.name), file) for file in files]
    return numbered([(int(m[1]), file) for m, file in names if m], "the activity")


def read_layer(path: Path) -> torch.Tensor:
    """How often each neuron of a layer was active, float64 [I]: counts, or shares of the tokens.

    Raises:
        SparsityError: the file holds something else, or negative numbers.
    """
    found = checked(path, "the one tensor in it", load(path), axes=1, integers=True)
    if bool((found < 0).any()):
        raise wrong(path, "holds negative numbers", "give counts, or shares of the tokens")
    return found.double()


def write_activations(folder: Path, frequencies: Mapping[int, torch.Tensor]) -> None:
    """Write what PowerInfer's solver reads: ``activation_{i}.pt`` in ``folder``.

    The engine looks for a folder ``activation`` next to the model's file.

    Args:
        folder: made if it is missing.
        frequencies: layer, from 0 without gaps, to [I] counts or shares; whole numbers become
            int64, others float32.

    Raises:
        ValueError: the layers are not like that.
        SparsityError: the folder cannot be written.
    """
    if sorted(frequencies) != list(range(len(frequencies))):
        raise ValueError(f"layers must be counted from 0 without gaps, not {sorted(frequencies)}")
    for layer, found in frequencies.items():
        if found.ndim != 1 or found.is_complex():
            raise ValueError(f"layer {layer}: [I] is needed, not {list(found.shape)} {found.dtype}")
        # The solver hands them to NumPy, which has no bfloat16.
        dtype = torch.float32 if found.is_floating_point() else torch.int64
        atomic_write(folder / f"activation_{layer}.pt", saved(plain(found.to(dtype))))
