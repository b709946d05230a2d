"""Spontaneous vectors as a value: fold, save, load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.tensor_file import read_tensors, write_tensors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.plain_layers import shape_of
from pytest_sparsity.models.weights import read_weight

_FORMAT = "pytest-sparsity spontaneous vectors 1"


@dataclass(frozen=True, eq=False)
class SpontaneousVectors:
    """One input-independent vector per site.

    Attributes:
        a: site name to a, float32 [K], K the width of the site's input.
        provenance: where they come from: weights hash, method, level, prefill policy,
            setting, and for trained ones data, steps, loss curve and command.
    """

    a: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any]

    def fold(self, model: LanguageModel) -> dict[str, torch.Tensor]:
        """Site name to W a, float32 [N]: what the site's layer adds to its bias.

        Raises:
            SparsityError: the vectors belong to another model, or a weight cannot be read.
        """
        layers = {site.name: site.module for site in model.sites}
        for site, a in self.a.items():
            if site not in layers or a.shape != (shape_of(layers[site])[1],):
                raise SparsityError(
                    f"spontaneous vectors do not fit model {model.name} at site {site}: they "
                    f"were made for weights {self.provenance.get('weights', 'unknown')[:12]}, "
                    f"the model has {model.weights_hash[:12]}; train them again with "
                    "--sparsity-train all"
                )
        return {
            site.name: read_weight(site, model).float() @ self.a[site.name].to(model.device)
            for site in model.sites
            if site.name in self.a
        }

    @property
    def hash(self) -> str:
        """SHA-256 over sites and values, 16 hex digits."""
        digest = hashlib.sha256()
        for site in sorted(self.a):
            digest.update(site.encode() + b"\0")
            digest.update(self.a[site].detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write a safetensors file (float16, provenance in its header), atomically.

        Raises:
            SparsityError: the file cannot be written.
        """
        tensors = {site: a.to(torch.float16) for site, a in self.a.items()}
        write_tensors(path, _FORMAT, tensors, self.provenance)

    @classmethod
    def load(cls, path: Path) -> SpontaneousVectors:
        """Read what :meth:`save` wrote.

        Raises:
            SparsityError: the file is missing, damaged or not of this format.
        """
        try:
            tensors, provenance = read_tensors(path, _FORMAT)
        except ValueError as error:
            raise SparsityError(
                f"{path} cannot be read as spontaneous vectors ({error}); delete it and train "
                "again with --sparsity-train missing"
            ) from error
        return cls({site: a.float() for site, a in tensors.items()}, provenance)
