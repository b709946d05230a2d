"""``sparse_linear`` in Triton: split over outputs and channels, weights of a channel at a stretch.

The masked GEMV of TEAL (arXiv 2408.14690, section 5.3), with complete masks, any strides, several
rows, float32 sums and a fixed order of summation.
"""

from __future__ import annotations

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.configurations import Product
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


@sparse_kernel(op="sparse_linear", backend="triton", unavailable=launching.unavailable)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Fast if the weights of a channel are contiguous (``weight.stride(0) == 1``), right for any
    strides.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearInputs`` asks for, or not
            on a GPU.
    """
    SparseLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias)


@sparse_kernel(
    op="sparse_linear",
    backend="triton",
    name="triton-split-k",
    deterministic=False,
    unavailable=launching.unavailable,
)
def sparse_linear_split_k(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """:func:`sparse_linear`, with float32 atomics that add the splits' parts as they come."""
    SparseLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias, atomic=True)


def unchecked(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None, atomic: bool = False
) -> Tensor:
    """:func:`sparse_linear` for operands that were checked before; wrong ones do anything."""
    return masked_product(x, None, weight, round_to(threshold, x.dtype), bias, atomic)


def masked_product(
    x: Tensor,
    size: Tensor | None,
    weight: Tensor,
    threshold: float,
    bias: Tensor | None = None,
    atomic: bool = False,
) -> Tensor:
    """The product over channels whose ``size`` is not at most the threshold: weight's dtype.

    Args:
        x: [rows, K].
        size: float32 [rows, K], of x's strides, or None: x itself.
        weight: [N, K].
        threshold: exact in the dtype of size.
        bias: [N] or None.
        atomic: as in ``launching.multiply``.
    """
    from pytest_sparsity.kernels.triton._jit.masked import masked

    outputs, channels = weight.shape
    plan = configurations.product(
        "masked", len(x), outputs, channels, weight.element_size(), launching.processors(x)
    )

    def start(target: Tensor, scales: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            masked,
            plan.grid,
            x,
            *(size, weight, scales, bias, target),
            *(len(x), outputs, channels, plan.share, threshold),
            *(*x.stride(), *weight.stride()),
            warps=plan.warps,
            ATOMIC=atomic,
            **plan.tile,
        )

    return launching.multiply(start, x, outputs, plan, bias=bias, atomic=atomic, dtype=weight.dtype)
