"""``sparse_quantized_linear`` compiled by numba: int8 and int4."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs


@sparse_kernel(op="sparse_quantized_linear", backend="cpu", unavailable=unavailable)
def sparse_quantized_linear(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], a packed weight, bias [N]: [rows, N], in x's dtype.

    int4 is fast for groups of a multiple of 64 outputs, right for any.  int8 scales its sums, so
    activations times 127 must not leave the range of float32.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQuantizedLinearInputs`` asks
            for, or not on the CPU.
    """
    SparseQuantizedLinearInputs(x, weight, threshold, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.features)
    run(x, weight, threshold, bias, out)
    return out


def run(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, out: Tensor
) -> None:
    """:func:`sparse_quantized_linear` into ``out`` for operands that were checked before."""
    payload, scales = weight.payload, weight.scales
    first = (x.data_ptr(), *x.stride(), *x.shape, payload.data_ptr(), payload.stride(0))
    last = (float(threshold), *located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype])
    if weight.bits == 8:
        _compiled().sparse_int8(*first, weight.features, *located(scales), *last)
    else:
        layout = (payload.shape[1], scales.data_ptr(), scales.stride(0), weight.group_size)
        _compiled().sparse_int4(*first, *layout, weight.features, *last)


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _packed

    return _packed
