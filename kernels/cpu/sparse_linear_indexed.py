"""``sparse_linear_indexed`` compiled by numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs


@sparse_kernel(op="sparse_linear_indexed", backend="cpu", unavailable=unavailable)
def sparse_linear_indexed(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None = None
) -> Tensor:
    """W[:, idx] x[:, idx] + b for x [1 to 8 rows, K], weight [N, K]: [rows, N], in x's dtype.

    Fast if the weights of a channel are beside each other (``weight.stride(0) == 1``), right for
    any strides.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearIndexedInputs`` asks for,
            or not on the CPU.
    """
    SparseLinearIndexedInputs(x, weight, indices, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.shape[0])
    run(x, weight, indices, bias, out)
    return out


def run(x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """:func:`sparse_linear_indexed` into ``out`` for operands that were checked before."""
    _compiled().sparse_linear_indexed(
        *(x.data_ptr(), *x.stride(), *x.shape),
        *(weight.data_ptr(), *weight.stride(), weight.shape[0]),
        *(*located(indices), indices.shape[0]),
        *(*located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _linear

    return _linear
