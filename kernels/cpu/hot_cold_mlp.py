"""``hot_cold_mlp`` compiled by numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs


@sparse_kernel(op="hot_cold_mlp", backend="cpu", unavailable=unavailable)
def hot_cold_mlp(
    x: Tensor, up: Tensor, down: Tensor, hot: int, cold: Tensor,
    activation: str = "relu", gate: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The MLP over neurons 0 to hot - 1 and those in ``cold``: [rows, N], in x's dtype.

    x is [1 to 8 rows, K], up and gate [I, K], down [N, I].  Fast if rows of up and gate and
    columns of down are contiguous, right for any strides.  Hidden values are float32.

    Raises:
        ValueError, TypeError: the operands are not what ``HotColdMlpInputs`` asks for, or not on
            the CPU.
    """
    HotColdMlpInputs(x, up, down, hot, cold, activation, gate)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], down.shape[0])
    run(x, up, down, hot, cold, activation, gate, out)
    return out


def run(
    x: Tensor, up: Tensor, down: Tensor, hot: int, cold: Tensor,
    activation: str, gate: Tensor | None, out: Tensor,
) -> None:  # fmt: skip
    """:func:`hot_cold_mlp` into ``out`` [rows, N], of operands that were checked before."""
    gate_at = (0, 0, 0) if gate is None else (gate.data_ptr(), *gate.stride())
    _compiled().hot_cold_mlp(
        *(x.data_ptr(), *x.stride(), *x.shape),
        *(*gate_at, up.data_ptr(), *up.stride(), up.shape[0]),
        *(down.data_ptr(), *down.stride(), down.shape[0]),
        *(hot, *located(cold), cold.shape[0], ACTIVATIONS.index(activation)),
        *(out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),
    )


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _mlp

    return _mlp
