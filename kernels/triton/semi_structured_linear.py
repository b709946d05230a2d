"""``semi_structured_linear`` in Triton: N:M weights, without groups whose channels are inactive."""

from __future__ import annotations

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.configurations import Product
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs


@sparse_kernel(op="semi_structured_linear", backend="triton", unavailable=launching.unavailable)
def semi_structured_linear(
    x: Tensor, weight: SemiStructuredWeight, threshold: float = 0.0, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight of N outputs: [rows, N], in x's dtype.

    Raises:
        ValueError, TypeError: the operands are not what ``SemiStructuredLinearInputs`` asks for,
            or not on a GPU.
    """
    SemiStructuredLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias)


@sparse_kernel(
    op="semi_structured_linear",
    backend="triton",
    name="triton-split-k",
    deterministic=False,
    unavailable=launching.unavailable,
)
def semi_structured_linear_split_k(
    x: Tensor, weight: SemiStructuredWeight, threshold: float = 0.0, bias: Tensor | None = None
) -> Tensor:
    """:func:`semi_structured_linear`, with atomics that add the splits' parts as they come."""
    SemiStructuredLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias, atomic=True)


def unchecked(
    x: Tensor,
    weight: SemiStructuredWeight,
    threshold: float,
    bias: Tensor | None,
    atomic: bool = False,
) -> Tensor:
    """:func:`semi_structured_linear` for operands checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.slots import slots

    values, indices = weight.values, weight.indices
    groups, kept, outputs = values.shape
    pairs = groups * kept // 2
    plan = configurations.product(
        "slots", len(x), outputs, pairs, values.element_size(), launching.processors(x)
    )

    def start(target: Tensor, _: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            slots,
            plan.grid,
            x,
            *(values, indices, bias, target),
            *(len(x), outputs, pairs, plan.share, round_to(threshold, x.dtype)),
            *(*x.stride(), *values.stride()[:2], *indices.stride()[:2]),
            warps=plan.warps,
            CHANNELS=weight.m,
            PAIRS=weight.n // 2,
            ATOMIC=atomic,
            **plan.tile,
        )

    return launching.multiply(start, x, outputs, plan, bias=bias, atomic=atomic)
