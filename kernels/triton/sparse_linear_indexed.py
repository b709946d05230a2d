"""``sparse_linear_indexed`` in Triton: only the listed channels are looked at.

What Deja Vu (arXiv 2310.17157) does with the neurons its predictor names.
"""

from __future__ import annotations

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.configurations import Product
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs


@sparse_kernel(op="sparse_linear_indexed", backend="triton", unavailable=launching.unavailable)
def sparse_linear_indexed(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None = None
) -> Tensor:
    """W[:, idx] x[:, idx] + b for x [1 to 8 rows, K], weight [N, K]: [rows, N], in x's dtype.

    Checking the indices waits for the GPU; :func:`unchecked` does not.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearIndexedInputs`` asks for,
            or not on a GPU.
    """
    SparseLinearIndexedInputs(x, weight, indices, bias)
    launching.check_device(x)
    return unchecked(x, weight, indices, bias)


@sparse_kernel(
    op="sparse_linear_indexed",
    backend="triton",
    name="triton-split-k",
    deterministic=False,
    unavailable=launching.unavailable,
)
def sparse_linear_indexed_split_k(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None = None
) -> Tensor:
    """:func:`sparse_linear_indexed`, with atomics that add the splits' parts as they come."""
    SparseLinearIndexedInputs(x, weight, indices, bias)
    launching.check_device(x)
    return unchecked(x, weight, indices, bias, atomic=True)


def unchecked(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None, atomic: bool = False
) -> Tensor:
    """:func:`sparse_linear_indexed` for operands checked before; wrong ones do anything."""
    return listed_product(x, weight, 0, indices, bias=bias, atomic=atomic)


def listed_product(
    x: Tensor,
    weight: Tensor,
    first: int,
    indices: Tensor,
    *,
    packed: bool = False,
    bias: Tensor | None = None,
    atomic: bool = False,
) -> Tensor:
    """The product over the ``first`` channels and the listed ones: [rows, N], weight's dtype.

    Args:
        x: [rows, K]; if ``packed``, [rows, first + count]: channels that take part and no others.
        weight: [N, K].
        first: how many channels take part besides the listed ones, from channel 0.
        indices: int32 [count].
        packed: see x.
        bias: [N] or None.
        atomic: as in ``launching.multiply``.
    """
    from pytest_sparsity.kernels.triton._jit.listed import listed

    outputs, count = len(weight), first + len(indices)
    indices = indices.contiguous()
    plan = configurations.product(
        "listed", len(x), outputs, count, weight.element_size(), launching.processors(x)
    )

    def start(target: Tensor, _: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            listed,
            plan.grid,
            x,
            *(weight, indices, bias, target),
            *(len(x), outputs, first, count, plan.share),
            *(*x.stride(), *weight.stride()),
            warps=plan.warps,
            PACKED=packed,
            ATOMIC=atomic,
            **plan.tile,
        )

    return launching.multiply(start, x, outputs, plan, bias=bias, atomic=atomic, dtype=weight.dtype)
