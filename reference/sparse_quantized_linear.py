"""The op ``sparse_quantized_linear``: ``sparse_linear`` with weights in 8 or 4 bits.

    y = W S_t(x) + b,    W = scale * integer

S_t as in ``sparse_linear``, the formats as in ``quantization``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.products import linear, linear_bound
from pytest_sparsity.reference.quantization import QuantizedWeight, dequantize


@dataclass(frozen=True, eq=False)
class SparseQuantizedLinearInputs:
    """Operands of ``sparse_quantized_linear``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        weight: of N outputs and K channels; its scales in x's dtype.
        threshold: as in ``sparse_linear``.
        bias: [N], x's dtype, or None.
    """

    x: Tensor
    weight: QuantizedWeight
    threshold: float
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        if not isinstance(self.weight, QuantizedWeight):
            raise TypeError(f"weight must be a QuantizedWeight, not {type(self.weight).__name__}")
        operands.check_channels("weight", self.weight.payload.shape[0], self.x)
        operands.check_device("weight", self.weight.payload, self.x)
        scales = self.weight.scales
        operands.check_tensor("weight.scales", scales, scales.ndim, (self.x.dtype,))
        operands.check_threshold("threshold", self.threshold, self.x.dtype)
        operands.check_bias(self.bias, self.x, self.weight.features)


def sparse_quantized_linear(inputs: SparseQuantizedLinearInputs) -> Tensor:
    """The op in float64: [rows, N].  Weights of a row's inactive channels are not read."""
    keep = operands.active(inputs.x, inputs.threshold)
    return linear(inputs.x, dequantize(inputs.weight), keep, inputs.bias)


def error_bound(inputs: SparseQuantizedLinearInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from the definition: float64 [rows, N].

    That of ``products.linear_bound`` with three roundings more than there are active channels:
    two more than ``sparse_linear``, for the scale, which kernels apply before they sum or after.
    """
    keep = operands.active(inputs.x, inputs.threshold)
    weight = dequantize(inputs.weight)
    return linear_bound(inputs.x, weight, keep, inputs.bias, precision, roundings=3)


def needed(inputs: SparseQuantizedLinearInputs) -> Mapping[str, Tensor]:
    """Which weights a sparse kernel reads: those of channels that are active in some row.

    The scales of 8 bits belong to outputs, and are all needed.
    """
    keep = operands.active(inputs.x, inputs.threshold).any(0)[:, None]
    weight = inputs.weight
    return {
        "weight.payload": keep.expand(weight.payload.shape),
        "weight.scales": keep.expand(weight.scales.shape)
        if weight.bits == 4
        else torch.ones_like(weight.scales, dtype=torch.bool),
    }
