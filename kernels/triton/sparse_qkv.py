"""``sparse_qkv`` in Triton: one launch over the fused weight, a threshold per output.

Borders between q, k and v may lie anywhere in a tile.
"""

from __future__ import annotations

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.configurations import Product
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs


@sparse_kernel(op="sparse_qkv", backend="triton", unavailable=launching.unavailable)
def sparse_qkv(
    x: Tensor,
    weight: Tensor,
    sizes: tuple[int, int, int],
    thresholds: tuple[float, float, float],
    bias: Tensor | None = None,
) -> Tensor:
    """q, k and v for x [1 to 8 rows, K], weight [Nq + Nk + Nv, K]: [rows, Nq + Nk + Nv].

    Fast if the weights of a channel are contiguous, right for any strides.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQkvInputs`` asks for, or not on
            a GPU.
    """
    SparseQkvInputs(x, weight, sizes, thresholds, bias)
    launching.check_device(x)
    return unchecked(x, weight, sizes, thresholds, bias)


@sparse_kernel(
    op="sparse_qkv",
    backend="triton",
    name="triton-split-k",
    deterministic=False,
    unavailable=launching.unavailable,
)
def sparse_qkv_split_k(
    x: Tensor,
    weight: Tensor,
    sizes: tuple[int, int, int],
    thresholds: tuple[float, float, float],
    bias: Tensor | None = None,
) -> Tensor:
    """:func:`sparse_qkv`, with float32 atomics that add the splits' parts as they come."""
    SparseQkvInputs(x, weight, sizes, thresholds, bias)
    launching.check_device(x)
    return unchecked(x, weight, sizes, thresholds, bias, atomic=True)


def unchecked(
    x: Tensor,
    weight: Tensor,
    sizes: tuple[int, int, int],
    thresholds: tuple[float, float, float],
    bias: Tensor | None,
    atomic: bool = False,
) -> Tensor:
    """:func:`sparse_qkv` for operands that were checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.segmented import segmented

    outputs, channels = weight.shape
    plan = configurations.product(
        "segmented", len(x), outputs, channels, weight.element_size(), launching.processors(x)
    )

    def start(target: Tensor, _: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            segmented,
            plan.grid,
            x,
            *(weight, bias, target, len(x)),
            *(sizes[0], sizes[0] + sizes[1], outputs, channels, plan.share),
            *(round_to(threshold, x.dtype) for threshold in thresholds),
            *(*x.stride(), *weight.stride()),
            warps=plan.warps,
            ATOMIC=atomic,
            **plan.tile,
        )

    return launching.multiply(start, x, outputs, plan, bias=bias, atomic=atomic)
