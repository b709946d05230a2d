"""The dense multiplication to measure against: torch's is slow for a single row on a CPU.

A contender in benchmarks, no registered kernel: it skips nothing.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


def dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Dot products in float32.  Fast if the weights of an output are beside each other
    (``weight.stride(1) == 1``), right for any strides.

    Raises:
        ValueError, TypeError: the operands do not fit, or are not on the CPU.
    """
    SparseLinearInputs(x, weight, 0.0, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.shape[0])
    run(x, weight, bias, out)
    return out


def run(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """:func:`dense_linear` into ``out`` [rows, N] for operands that were checked before."""
    rows, channels = x.shape
    _compiled().dense_linear(
        *(x.data_ptr(), *x.stride(), rows, channels),
        *(weight.data_ptr(), *weight.stride(), weight.shape[0]),
        *(*located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _linear

    return _linear
