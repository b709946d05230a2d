"""The op ``sparse_linear_indexed``: a linear layer over a list of input channels.

    y = W[:, idx] x[:, idx] + b

What a predictor asks for: the channels are chosen before, and are the same for all rows
(Deja Vu, arXiv 2310.17157, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.products import linear, linear_bound


@dataclass(frozen=True, eq=False)
class SparseLinearIndexedInputs:
    """Operands of ``sparse_linear_indexed``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        weight: [N, K], x's dtype, any strides.
        indices: int32 [count], the channels that take part: ascending, each once; may be empty.
        bias: [N], x's dtype, or None.
    """

    x: Tensor
    weight: Tensor
    indices: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_weight("weight", self.weight, self.x)
        operands.check_indices("indices", self.indices, self.x, 0, self.x.shape[1])
        operands.check_bias(self.bias, self.x, self.weight.shape[0])


def sparse_linear_indexed(inputs: SparseLinearIndexedInputs) -> Tensor:
    """The op in float64: [rows, N].  Weights and activations of other channels are not read."""
    return linear(inputs.x, inputs.weight, _listed(inputs).expand(inputs.x.shape), inputs.bias)


def error_bound(inputs: SparseLinearIndexedInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from the definition: float64 [rows, N].

    That of ``products.linear_bound`` with one rounding more than there are listed channels.
    """
    keep = _listed(inputs).expand(inputs.x.shape)
    return linear_bound(inputs.x, inputs.weight, keep, inputs.bias, precision)


def needed(inputs: SparseLinearIndexedInputs) -> Mapping[str, Tensor]:
    """Which weights a kernel reads: those of the listed channels."""
    return {"weight": _listed(inputs).expand(inputs.weight.shape)}


def _listed(inputs: SparseLinearIndexedInputs) -> Tensor:
    """Which channels are in the list: bool [K]."""
    listed = torch.zeros(inputs.x.shape[1], dtype=torch.bool, device=inputs.x.device)
    listed[inputs.indices.long()] = True
    return listed
