"""``sparse_linear`` compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType

import numpy as np
from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


@sparse_kernel(op="sparse_linear", backend="cpu", unavailable=unavailable)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Fast if the weights of a channel are beside each other (``weight.stride(0) == 1``), right for
    any strides.  Sums are float32, and the same bits for a range of outputs alone as among all.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearInputs`` asks for, or not
            on the CPU.
    """
    SparseLinearInputs(x, weight, threshold, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.shape[0])
    run(x, weight, threshold, bias, out)
    return out


def run(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None, out: Tensor) -> None:
    """:func:`sparse_linear` into ``out`` for a loop whose operands were checked before.

    Wrong operands crash.  ``out`` is [rows, N], its rows of any pitch, and shares no memory with
    the others.
    """
    rows, channels = x.shape
    _compiled().sparse_linear(
        *(x.data_ptr(), *x.stride(), rows, channels),
        *(weight.data_ptr(), *weight.stride(), weight.shape[0]),
        *(float(threshold), *located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


def prepared(
    weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Callable[[Tensor, Tensor], None]:
    """:func:`run` with all but ``x`` and ``out`` fixed, and these two contiguous.

    From cold caches looking into a tensor takes microseconds; here that is done once.  The weight
    and the bias must stay where they are.
    """
    outputs, channels = weight.shape
    numbers = (channels, weight.data_ptr(), *weight.stride(), outputs, *located(bias))
    fixed = np.array(numbers, np.int64)
    address, level = fixed.ctypes.data, float(threshold)
    kernel, sample = _compiled().prepared_sparse_linear, SAMPLES[weight.dtype]

    def call(x: Tensor, out: Tensor, alive: object = (fixed, weight, bias)) -> None:
        kernel(address, x.data_ptr(), x.numel() // channels, out.data_ptr(), level, sample)

    return call


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _linear

    return _linear
