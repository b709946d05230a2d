"""``sparse_swiglu`` in one call of C++: gates by fours, then what active neurons need."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.native import library
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs


@sparse_kernel(op="sparse_swiglu", backend="native", unavailable=library.unavailable)
def sparse_swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """Down (a * up x) over neurons with |a| > t, a = act(gate x): [rows, N], in x's dtype.

    Fast if the rows of ``gate`` and ``up`` and the columns of ``down`` are contiguous, right for
    any strides.  Hidden values are float32.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseSwigluInputs`` asks for, or not
            on the CPU.
        SparsityError: the library cannot be compiled.
    """
    SparseSwigluInputs(x, gate, up, down, threshold, activation)
    library.check_on_cpu(x)
    return unchecked(x, gate, up, down, threshold, activation)


def unchecked(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """:func:`sparse_swiglu` for a loop whose operands were checked before; wrong ones crash."""
    x = x.contiguous()
    result = torch.empty(x.shape[0], down.shape[0], dtype=x.dtype)
    weights: tuple[library.Argument, ...] = (gate, *gate.stride(), up, *up.stride())
    library.call(
        *("sparse_swiglu", x.dtype, x, *x.shape, *weights, down, *down.stride()),
        *(gate.shape[0], down.shape[0], float(threshold), ACTIVATIONS.index(activation), result),
    )
    return result
