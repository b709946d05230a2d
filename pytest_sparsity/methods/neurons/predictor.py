"""Predicts which neurons of a feed-forward block will be active, before they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import locked
from pytest_sparsity.core.tensor_file import read_tensors, write_tensors
from pytest_sparsity.methods.plan import INPUT, RESIDUAL
from pytest_sparsity.models.powerinfer_keys import PREDICTORS_FORMAT

#: What stands between the two matrices: PowerInfer's predictors have ReLU, Deja Vu's nothing.
RELU, LINEAR = "relu", "none"


@dataclass(frozen=True, eq=False)
class LayerPredictor:
    """Scores of one layer's neurons: second f(first v) + bias, with f as ``between`` says.

    Attributes:
        first: float32 [R, H], H the width of what it reads.
        second: float32 [I, R].
        bias: float32 [I], or None for none: neither PowerInfer's nor Deja Vu's have one.
        between: ``RELU`` (PowerInfer) or ``LINEAR`` (Deja Vu).
    """

    first: torch.Tensor
    second: torch.Tensor
    bias: torch.Tensor | None = None
    between: str = RELU

    def scores(self, v: torch.Tensor) -> torch.Tensor:
        """How likely each neuron is active, float32 [..., I], from v [..., H]."""
        hidden = v.float() @ self.first.T
        scores = (torch.relu(hidden) if self.between == RELU else hidden) @ self.second.T
        return scores if self.bias is None else scores + self.bias

    def to(self, device: torch.device) -> LayerPredictor:
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, first=self.first.to(device), second=self.second.to(device), bias=bias)

    @property
    def weights(self) -> int:
        """How many weights are read to decide about one token."""
        return self.first.numel() + self.second.numel()


@dataclass(frozen=True, eq=False)
class Predictor:
    """The predictors of a model.

    Attributes:
        layers: by layer, in natural order.
        provenance: where they come from: weights, calibration, recipe, loss, cost; or a file.
        reads: ``RESIDUAL``, the stream before the MLP's norm as PowerInfer and Deja Vu have it,
            or ``INPUT``, what the norm makes of it.
        threshold: the score from which neurons are computed, where it came with them.
    """

    layers: Mapping[int, LayerPredictor]
    provenance: Mapping[str, Any]
    reads: str = INPUT
    threshold: float | None = None

    @property
    def weights(self) -> int:
        """How many weights are read for every token to predict it."""
        return sum(layer.weights for layer in self.layers.values())

    @property
    def cost(self) -> dict[str, float]:
        """Tokens and seconds that training took; 0 for predictors that others trained."""
        return {name: float(self.provenance.get(name, 0)) for name in ("tokens", "seconds")}

    def save(self, path: Path) -> None:
        """Write a safetensors file (float16, provenance in its header), atomically.

        Raises:
            SparsityError: the file cannot be written.
        """
        tensors = {
            f"{layer}.{part}": tensor.to(torch.float16)
            for layer, found in self.layers.items()
            for part, tensor in _parts(found)
        }
        (between,) = {found.between for found in self.layers.values()}
        head = {"reads": self.reads, "between": between, "threshold": self.threshold}
        write_tensors(path, PREDICTORS_FORMAT, tensors, {**self.provenance, **head})

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Read what :meth:`save` wrote, or what came with a model.

        Raises:
            SparsityError: the file is missing, damaged or not of this format.
        """
        try:
            tensors, provenance = read_tensors(path, PREDICTORS_FORMAT)
            reads, between = provenance.pop("reads"), provenance.pop("between")
            if reads not in (INPUT, RESIDUAL) or between not in (RELU, LINEAR):
                raise ValueError(f"it reads {reads!r} and has {between!r} between its matrices")
            threshold = provenance.pop("threshold")
            layers = {
                layer: LayerPredictor(
                    tensors[f"{layer}.first"].float(),
                    tensors[f"{layer}.second"].float(),
                    bias.float() if (bias := tensors.get(f"{layer}.bias")) is not None else None,
                    between,
                )
                for layer in sorted({int(name.partition(".")[0]) for name in tensors})
            }
        except (ValueError, KeyError) as error:
            raise SparsityError(
                f"{path} cannot be read as predictors of neurons ({error}); delete it, and they "
                "are made again"
            ) from error
        return cls(layers, provenance, reads, None if threshold is None else float(threshold))


def made_once(folder: Path | None, name: str, train: Callable[[], Predictor]) -> Predictor:
    """The predictors kept under ``name`` in ``folder``, trained if there are none; None keeps none.

    Raises:
        SparsityError: they cannot be trained or written, or the file is damaged.
    """
    if folder is None:
        return train()
    path = folder / f"{name}.safetensors"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            train().save(path)
        # What is used is what is stored: float16, as the next run will read it.
        return Predictor.load(path)


def _parts(layer: LayerPredictor) -> Iterable[tuple[str, torch.Tensor]]:
    yield "first", layer.first
    yield "second", layer.second
    if layer.bias is not None:
        yield "bias", layer.bias
