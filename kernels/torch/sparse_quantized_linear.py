"""``sparse_quantized_linear`` with torch operators: the weight is unpacked first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs


@sparse_kernel(op="sparse_quantized_linear", **COMPOSED)
def sparse_quantized_linear(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [rows, K], a packed weight, bias [N]: [rows, N], in x's dtype.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQuantizedLinearInputs`` asks for.
    """
    SparseQuantizedLinearInputs(x, weight, threshold, bias)
    kept = sparsify_activations(x, threshold).float()
    added = None if bias is None else bias.float()
    return functional.linear(kept, _unpacked(weight).T, added).to(x.dtype)


def _unpacked(weight: QuantizedWeight) -> Tensor:
    """float32 [K, N]; x's dtype would round the weights once more."""
    if weight.bits == 8:
        return weight.payload * weight.scales.float()
    nibbles = torch.cat([weight.payload & 0xF, weight.payload >> 4], dim=1)
    scales = weight.scales.float().repeat_interleave(weight.group_size, dim=1)
    return ((nibbles.float() - 8) * scales)[:, : weight.features]
