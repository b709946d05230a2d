"""``sparse_swiglu`` in CUDA C++: gates and ups of neurons in one launch, down in the next."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.cuda import compiler, multiply
from pytest_sparsity.kernels.cuda.source import Argument, check_place
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs

_WARP = 32


@sparse_kernel(op="sparse_swiglu", backend="cuda", source=compiler.SOURCE)
def sparse_swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """Down (a * up x) over neurons with |a| > t, a = act(gate x): [rows, N], in x's dtype.

    Fast if the rows of ``gate`` and ``up`` and the columns of ``down`` are contiguous and begin
    at multiples of 16 bytes, right for any strides.  Hidden values are float32.  The same bits in
    every run.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseSwigluInputs`` asks for, or not
            on a CUDA device.
        SparsityError: the kernel cannot be compiled.
    """
    SparseSwigluInputs(x, gate, up, down, threshold, activation)
    check_place(x, "sparse_swiglu")
    return unchecked(x, gate, up, down, threshold, activation)


def unchecked(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """:func:`sparse_swiglu`, its operands checked before."""
    x, threshold = x.contiguous(), float(threshold)
    (rows, channels), (outputs, neurons) = x.shape, down.shape
    result = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    if result.numel() == 0:
        return result
    a, h = torch.empty(2, rows, neurons, dtype=torch.float32, device=x.device)
    warps = multiply.THREADS // _WARP
    weights: tuple[Argument, ...] = (gate, *gate.stride(), up, *up.stride(), neurons)
    kernels = compiler.instance(x.dtype, rows)
    kernels.launch(
        compiler.entry("swiglu_neurons", x.dtype, rows),
        *(-(-neurons // warps), (_WARP, warps)),
        (x, channels, *weights, threshold, ACTIVATIONS.index(activation), a, h),
    )
    kernels.launch(
        compiler.entry("swiglu_down", x.dtype, rows),
        *multiply.division(outputs, neurons, x.dtype),
        (a, h, threshold, neurons, down, down.stride(1), down.stride(0), outputs, result),
    )
    return result
