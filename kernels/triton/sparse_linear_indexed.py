"""``sparse_linear_indexed`` in Triton: only the listed channels are looked at.

What Deja Vu (arXiv 2310.17157) does with the neurons its predictor names.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import launching
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs


@sparse_kernel(op="sparse_linear_indexed", backend="triton", unavailable=launching.unavailable)
def sparse_linear_indexed(
    x: Tensor, weight: Tensor, indices: Tensor, bias: Tensor | None = None, atomic: bool = False
) -> Tensor:
    """W[:, idx] x[:, idx] + b for x [1 to 8 rows, K], weight [N, K]: [rows, N], in x's dtype.

    Checking the indices waits for the GPU; :func:`unchecked` does not.  With ``atomic`` the
    splits' parts are added as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearIndexedInputs`` asks for,
            or not on a GPU.
    """
    launching.check(SparseLinearIndexedInputs(x, weight, indices, bias))
    return unchecked(x, weight, indices, bias, atomic)


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
    plan = launching.division("listed", x, weight, outputs, count)
    operands = {"weight": weight, "indices": indices, "first": first, "count": count}
    operands |= {"weight_output": weight.stride(0), "weight_channel": weight.stride(1)}
    operands |= {"PACKED": packed}
    return launching.multiply(
        listed, plan, x, outputs, operands, {"bias": bias}, atomic=atomic, dtype=weight.dtype
    )


sparse_kernel(op="sparse_linear_indexed", **launching.SPLIT_K)(
    partial(sparse_linear_indexed, atomic=True)
)
