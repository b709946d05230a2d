"""``sparse_linear`` in CUDA C++."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.cuda import compiler, multiply
from pytest_sparsity.kernels.cuda.source import check_place
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


@sparse_kernel(op="sparse_linear", backend="cuda", source=compiler.SOURCE)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Fast if the weights of a channel are contiguous and begin at multiples of 16 bytes, right for
    any strides.  The same bits in every run.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearInputs`` asks for, or not
            on a CUDA device.
        SparsityError: the kernel cannot be compiled.
    """
    SparseLinearInputs(x, weight, threshold, bias)
    check_place(x, "sparse_linear")
    return unchecked(x, weight, threshold, bias)


def unchecked(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    """:func:`sparse_linear`, its operands checked before."""
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    (rows, channels), outputs = x.shape, weight.shape[0]
    result = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    if outputs == 0:
        return result
    arguments = (
        *(x, channels, weight, weight.stride(1), weight.stride(0), outputs),
        *(round_to(threshold, x.dtype), bias, result),
    )
    compiler.instance(x.dtype, rows).launch(
        compiler.entry("sparse_linear", x.dtype, rows),
        *multiply.division(outputs, channels, x.dtype),
        arguments,
    )
    return result
