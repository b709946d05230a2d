"""Calibrated weights on disk, so that they are found once per machine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.core.tensor_file import read_tensors, write_tensors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.compression.names import Scheme, in_file_name
from pytest_sparsity.models.compression.sequence import put

_FORMAT = "pytest-sparsity compressed weights 1"


def path(cache: Path, model: LanguageModel, scheme: Scheme, code: str) -> Path:
    """Where the weights of a compressed model are kept.

    Args:
        cache: the cache folder.
        model: with the hash of its compressed weights.
        scheme: for the name.
        code: identifies the code that they depend on.
    """
    of = model.weights_hash, model.network_hash, str(model.dtype), str(model.device.type)
    key = sha256_text(*of, code)[:16]
    return cache / "weights" / f"{model.name}-{in_file_name(scheme.name)}-{key}.safetensors"


def write(path: Path, model: LanguageModel, provenance: Mapping[str, Any]) -> None:
    """Store the sites' weights, atomically.

    Raises:
        SparsityError: the file cannot be written.
    """
    weights = {site.name: site.module.weight for site in model.sites}
    write_tensors(path, _FORMAT, weights, provenance)


def read(path: Path, model: LanguageModel) -> dict[str, Any] | None:
    """Put stored weights into ``model``; their provenance, or None if they are not there."""
    if not path.exists():
        return None
    try:
        weights, provenance = read_tensors(path, _FORMAT)
        for site in model.sites:
            _check(weights[site.name], site.module.weight)
    except (ValueError, KeyError) as error:
        warnings.warn(
            SparsityWarning(f"compressed weights {path} are damaged ({error}): made again"),
            stacklevel=2,
        )
        return None
    for site in model.sites:
        put(site, weights[site.name].to(model.device))
    return provenance


def _check(stored: torch.Tensor, own: torch.Tensor) -> None:
    if stored.shape != own.shape or stored.dtype != own.dtype:
        raise ValueError("a weight of another shape or dtype")
    if not bool(stored.isfinite().all()):
        raise ValueError("a weight that is not finite")
