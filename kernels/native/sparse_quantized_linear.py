"""``sparse_quantized_linear`` in C++: int8 and int4, with the machine's vector registers."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.native import library
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs


@sparse_kernel(op="sparse_quantized_linear", backend="native", unavailable=library.unavailable)
def sparse_quantized_linear(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], a packed weight, bias [N]: [rows, N], in x's dtype.

    int4 is fast for groups of 32 outputs or more; other groups are right but slow.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQuantizedLinearInputs`` asks for,
            or not on the CPU.
        SparsityError: the library cannot be compiled.
    """
    SparseQuantizedLinearInputs(x, weight, threshold, bias)
    library.check_on_cpu(x)
    return unchecked(x, weight, threshold, bias)


def unchecked(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """:func:`sparse_quantized_linear` for a loop whose operands were checked before."""
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    result = torch.empty(x.shape[0], weight.features, dtype=x.dtype)
    payload, scales = weight.payload, weight.scales
    layout: tuple[library.Argument, ...] = (scales,)
    if weight.bits == 4:
        layout = (payload.shape[1], scales, scales.stride(0), weight.group_size)
    library.call(
        *(f"sparse_int{weight.bits}", x.dtype, x, *x.shape, payload, payload.stride(0), *layout),
        *(weight.features, library.threshold_in(x.dtype, threshold), bias, result),
    )
    return result
