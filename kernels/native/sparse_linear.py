"""``sparse_linear`` in C++: a second implementation, to check the first by."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.native import library
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


@sparse_kernel(op="sparse_linear", backend="native", unavailable=library.unavailable)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Fast if the weights of a channel are contiguous (``weight.stride(0) == 1``), right for any
    strides.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearInputs`` asks for, or not
            on the CPU.
        SparsityError: the library cannot be compiled.
    """
    SparseLinearInputs(x, weight, threshold, bias)
    library.check_on_cpu(x)
    return unchecked(x, weight, threshold, bias)


def unchecked(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    """:func:`sparse_linear` for a loop whose operands were checked before; wrong ones crash."""
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    result = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype)
    library.call(
        *("sparse_linear", x.dtype, x, *x.shape),
        *(weight, weight.stride(1), weight.stride(0), weight.shape[0]),
        *(library.threshold_in(x.dtype, threshold), bias, result),
    )
    return result
