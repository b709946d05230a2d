"""``sparse_qkv`` compiled by numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs


@sparse_kernel(op="sparse_qkv", backend="cpu", unavailable=unavailable)
def sparse_qkv(
    x: Tensor, weight: Tensor, sizes: tuple[int, int, int], thresholds: tuple[float, float, float],
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Projections to q, k and v in one call: [rows, Nq + Nk + Nv], in x's dtype.

    x is [1 to 8 rows, K], weight [Nq + Nk + Nv, K].  Fast if the weights of a channel are beside
    each other (``weight.stride(0) == 1``), right for any strides.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQkvInputs`` asks for, or not on
            the CPU.
    """
    SparseQkvInputs(x, weight, sizes, thresholds, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.shape[0])
    run(x, weight, sizes, thresholds, bias, out)
    return out


def run(
    x: Tensor, weight: Tensor, sizes: tuple[int, int, int], thresholds: tuple[float, float, float],
    bias: Tensor | None, out: Tensor,
) -> None:  # fmt: skip
    """:func:`sparse_qkv` into ``out`` [rows, N] for operands that were checked before."""
    q, k, v = (float(threshold) for threshold in thresholds)
    _compiled().sparse_qkv(
        *(x.data_ptr(), *x.stride(), *x.shape, weight.data_ptr(), *weight.stride(), tuple(sizes)),
        *((q, k, v), *located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _linear

    return _linear
