"""The dense multiplication to measure against: torch's is slow for a single row on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.native import library
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


def dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Dot products with four rows of weights at a time, summed in float32.  Fast if the weights of
    an output are contiguous (``weight.stride(1) == 1``), right for any strides.

    Raises:
        ValueError, TypeError: the operands do not fit, or are not on the CPU.
        SparsityError: the library cannot be compiled.
    """
    SparseLinearInputs(x, weight, 0.0, bias)
    library.check_on_cpu(x)
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    result = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype)
    library.call(
        *("dense_linear", x.dtype, x, *x.shape),
        *(weight, *weight.stride(), weight.shape[0], bias, result),
    )
    return result
