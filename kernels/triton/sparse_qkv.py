"""``sparse_qkv`` in Triton: one launch over the fused weight, a threshold per output.

Borders between q, k and v may lie anywhere in a tile.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import launching
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs


@sparse_kernel(op="sparse_qkv", backend="triton", unavailable=launching.unavailable)
def sparse_qkv(
    x: Tensor, weight: Tensor, sizes: tuple[int, int, int], thresholds: tuple[float, float, float],
    bias: Tensor | None = None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """q, k and v for x [1 to 8 rows, K], weight [Nq + Nk + Nv, K]: [rows, Nq + Nk + Nv].

    Fast if the weights of a channel are contiguous, right for any strides.  With ``atomic`` the
    splits' parts are added as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQkvInputs`` asks for, or not on
            a GPU.
    """
    launching.check(SparseQkvInputs(x, weight, sizes, thresholds, bias))
    return unchecked(x, weight, sizes, thresholds, bias, atomic)


def unchecked(
    x: Tensor, weight: Tensor, sizes: tuple[int, int, int], thresholds: tuple[float, float, float],
    bias: Tensor | None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """:func:`sparse_qkv` for operands that were checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.segmented import segmented

    outputs, channels = weight.shape
    plan = launching.division("segmented", x, weight, outputs, channels)
    operands = {"weight": weight, "channels": channels}
    operands |= {"second": sizes[0], "third": sizes[0] + sizes[1]}
    q, k, v = (round_to(threshold, x.dtype) for threshold in thresholds)
    operands |= {"threshold_1": q, "threshold_2": k, "threshold_3": v}
    operands |= {"weight_output": weight.stride(0), "weight_channel": weight.stride(1)}
    return launching.multiply(segmented, plan, x, outputs, operands, {"bias": bias}, atomic=atomic)


sparse_kernel(op="sparse_qkv", **launching.SPLIT_K)(partial(sparse_qkv, atomic=True))
