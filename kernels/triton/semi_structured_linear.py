"""``semi_structured_linear`` in Triton: N:M weights, without groups whose channels are inactive."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import launching
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs


@sparse_kernel(op="semi_structured_linear", backend="triton", unavailable=launching.unavailable)
def semi_structured_linear(
    x: Tensor, weight: SemiStructuredWeight, threshold: float = 0.0,
    bias: Tensor | None = None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """W S_t(x) + b for x [1 to 8 rows, K], weight of N outputs: [rows, N], in x's dtype.

    With ``atomic`` the splits' parts are added as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SemiStructuredLinearInputs`` asks for,
            or not on a GPU.
    """
    launching.check(SemiStructuredLinearInputs(x, weight, threshold, bias))
    return unchecked(x, weight, threshold, bias, atomic)


def unchecked(
    x: Tensor, weight: SemiStructuredWeight, threshold: float,
    bias: Tensor | None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """:func:`semi_structured_linear` for operands checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.slots import slots

    values, indices = weight.values, weight.indices
    groups, kept, outputs = values.shape
    pairs = groups * kept // 2
    plan = launching.division("slots", x, values, outputs, pairs)
    operands = {"values": values, "indices": indices, "pairs": pairs}
    operands |= {"values_group": values.stride(0), "values_slot": values.stride(1)}
    operands |= {"indices_group": indices.stride(0), "indices_pair": indices.stride(1)}
    operands |= {"threshold": round_to(threshold, x.dtype)}
    operands |= {"CHANNELS": weight.m, "PAIRS": weight.n // 2}
    return launching.multiply(slots, plan, x, outputs, operands, {"bias": bias}, atomic=atomic)


sparse_kernel(op="semi_structured_linear", **launching.SPLIT_K)(
    partial(semi_structured_linear, atomic=True)
)
