"""Predicts from a block's input which of its neurons will be active, as PowerInfer does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.tensor_file import read_tensors, write_tensors

_FORMAT = "pytest-sparsity neuron predictors 1"


@dataclass(frozen=True, eq=False)
class LayerPredictor:
    """Scores of one layer's neurons: second relu(first x) + bias.

    The two matrices are those of PowerInfer's ``llm_build_ffn_sparse``; the bias carries how
    often a neuron is active at all.

    Attributes:
        first: float32 [R, H], H the width of the block's input.
        second: float32 [I, R].
        bias: float32 [I].
    """

    first: torch.Tensor
    second: torch.Tensor
    bias: torch.Tensor

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """How likely each neuron is active, float32 [..., I], from inputs x [..., H]."""
        return torch.relu(x.float() @ self.first.T) @ self.second.T + self.bias

    def to(self, device: torch.device) -> LayerPredictor:
        """The same on another device."""
        return LayerPredictor(*(getattr(self, part).to(device) for part in _PARTS))


_PARTS = tuple(field.name for field in fields(LayerPredictor))


@dataclass(frozen=True, eq=False)
class Predictor:
    """The predictors of a model.

    Attributes:
        layers: by layer, in natural order.
        provenance: where they come from: weights, calibration, recipe, loss, cost.
    """

    layers: Mapping[int, LayerPredictor]
    provenance: Mapping[str, Any]

    @property
    def weights(self) -> int:
        """How many weights are read for every token to predict it."""
        return sum(p.first.numel() + p.second.numel() for p in self.layers.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file (float16, provenance in its header), atomically.

        Raises:
            SparsityError: the file cannot be written.
        """
        tensors = {
            f"{layer}.{part}": getattr(found, part).to(torch.float16)
            for layer, found in self.layers.items()
            for part in _PARTS
        }
        write_tensors(path, _FORMAT, tensors, self.provenance)

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Read what :meth:`save` wrote.

        Raises:
            SparsityError: the file is missing, damaged or not of this format.
        """
        try:
            tensors, provenance = read_tensors(path, _FORMAT)
            layers = {
                layer: LayerPredictor(*(tensors[f"{layer}.{part}"].float() for part in _PARTS))
                for layer in sorted({int(name.partition(".")[0]) for name in tensors})
            }
        except (ValueError, KeyError) as error:
            raise SparsityError(
                f"{path} cannot be read as predictors of neurons ({error}); delete it, and they "
                "are trained again"
            ) from error
        return cls(layers, provenance)
