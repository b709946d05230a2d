"""``sparse_swiglu`` compiled by numba: all gates, then what active neurons need."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs


@sparse_kernel(op="sparse_swiglu", backend="cpu", unavailable=unavailable)
def sparse_swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """Compute down (a * up x) over neurons with |a| > t, a = act(gate x): [rows, N], in x's dtype.

    x is [1 to 8 rows, K], gate and up [I, K], down [N, I].  Fast if rows of gate and up and
    columns of down are contiguous, right for any strides.  Hidden values are float32.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseSwigluInputs`` asks for, or not
            on the CPU.
    """
    SparseSwigluInputs(x, gate, up, down, threshold, activation)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], down.shape[0])
    run(x, gate, up, down, threshold, activation, out)
    return out


def run(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str,
    out: Tensor,
) -> None:  # fmt: skip
    """:func:`sparse_swiglu` into ``out`` [rows, N] for operands that were checked before."""
    _compiled().sparse_swiglu(
        *(x.data_ptr(), *x.stride(), *x.shape),
        *(gate.data_ptr(), *gate.stride(), up.data_ptr(), *up.stride(), gate.shape[0]),
        *(down.data_ptr(), *down.stride(), down.shape[0]),
        *(float(threshold), ACTIVATIONS.index(activation)),
        *(out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _mlp

    return _mlp
