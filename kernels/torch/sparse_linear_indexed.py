"""``sparse_linear_indexed`` with torch operators."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs


@sparse_kernel(op="sparse_linear_indexed", **COMPOSED)
def sparse_linear_indexed(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None = None
) -> Tensor:
    """W[:, idx] x[:, idx] + b for x [rows, K], weight [N, K]: [rows, N], in x's dtype.

    The weights of the listed channels are copied, which takes longer than to multiply with them.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearIndexedInputs`` asks for.
    """
    SparseLinearIndexedInputs(x, weight, indices, bias)
    return functional.linear(x.index_select(1, indices), weight.index_select(1, indices), bias)
