"""``semi_structured_linear`` compiled by numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, located, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs


@sparse_kernel(op="semi_structured_linear", backend="cpu", unavailable=unavailable)
def semi_structured_linear(
    x: Tensor, weight: SemiStructuredWeight, threshold: float = 0.0, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], an N:M weight, bias [N]: [rows, N], in x's dtype.

    Groups of channels that are inactive in a row are skipped.  In the others the weights of
    inactive channels are multiplied by 0, and must be finite.

    Raises:
        ValueError, TypeError: the operands are not what ``SemiStructuredLinearInputs`` asks for,
            or not on the CPU.
    """
    SemiStructuredLinearInputs(x, weight, threshold, bias)
    check_on_cpu(x)
    out = x.new_empty(x.shape[0], weight.features)
    values, indices = weight.values, weight.indices
    _compiled().semi_structured_linear(
        *(x.data_ptr(), *x.stride(), *x.shape),
        *(values.data_ptr(), values.stride(0), values.stride(1), weight.features, weight.n),
        *(indices.data_ptr(), indices.stride(0), indices.stride(1)),
        *(float(threshold), *located(bias), out.data_ptr(), out.stride(0)),
        *(((0,) * weight.m), SAMPLES[x.dtype]),
    )
    return out


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _packed

    return _packed
