"""Tensors in a safetensors file, with its format and their provenance in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.files import atomic_write

if TYPE_CHECKING:
    import torch


def write_tensors(
    path: Path, format: str, tensors: Mapping[str, torch.Tensor], provenance: Mapping[str, Any]
) -> None:
    """Write a file, atomically.

    Args:
        path: of the file.
        format: name and version, which a reader must ask for.
        tensors: by name; of any dtype, kept as they are.
        provenance: where they come from, as plain JSON.

    Raises:
        SparsityError: the file cannot be written.
    """
    from safetensors.torch import save

    header = {"format": format, "provenance": json.dumps(dict(provenance))}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, save(plain, metadata=header))


def read_tensors(path: Path, format: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a file, on the CPU, and their provenance.

    Raises:
        ValueError: it is missing, damaged or of another format; the message says which.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            if (found := header.get("format")) != format:
                raise ValueError(f"{format!r} expected, {found!r} found")
            provenance = json.loads(header["provenance"])
            if not isinstance(provenance, dict):
                raise ValueError("its provenance is not an object")
            return {name: stream.get_tensor(name) for name in list(stream.keys())}, provenance
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
