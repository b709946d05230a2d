"""``sparse_linear`` in Triton: split over outputs and channels, weights of a channel at a stretch.

The masked GEMV of TEAL (arXiv 2408.14690, section 5.3), with complete masks, any strides, several
rows, float32 sums and a fixed order of summation.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import launching
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs


@sparse_kernel(op="sparse_linear", backend="triton", unavailable=launching.unavailable)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None, atomic: bool = False
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight [N, K], bias [N]: [rows, N], in x's dtype.

    Fast if the weights of a channel are contiguous (``weight.stride(0) == 1``), right for any
    strides.  With ``atomic`` the splits' parts are added as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseLinearInputs`` asks for, or not
            on a GPU.
    """
    launching.check(SparseLinearInputs(x, weight, threshold, bias))
    return unchecked(x, weight, threshold, bias, atomic)


def unchecked(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None, atomic: bool = False
) -> Tensor:
    """:func:`sparse_linear` for operands that were checked before; wrong ones do anything."""
    return masked_product(x, None, weight, round_to(threshold, x.dtype), bias, atomic=atomic)


def masked_product(
    x: Tensor,
    size: Tensor | None,
    weight: Tensor,
    threshold: float,
    bias: Tensor | None = None,
    scales: Tensor | None = None,
    atomic: bool = False,
) -> Tensor:
    """The product over channels whose ``size`` is not at most the threshold: [rows, N].

    In the weight's dtype; in x's if the weight is int8.

    Args:
        x: [rows, K].
        size: float32 [rows, K], of x's strides, or None: x itself.
        weight: [N, K], of floats or int8.
        threshold: exact in the dtype of size.
        bias: [N] or None.
        scales: [N] or None, what each output's sums are multiplied with.
        atomic: as in ``launching.multiply``.
    """
    from pytest_sparsity.kernels.triton._jit.masked import masked

    outputs, channels = weight.shape
    floats = weight.dtype.is_floating_point
    plan = launching.division("masked" if floats else "bytes", x, weight, outputs, channels)
    operands = {"size": size, "weight": weight, "channels": channels, "threshold": threshold}
    operands |= {"weight_output": weight.stride(0), "weight_channel": weight.stride(1)}
    at_end = {"scales": scales, "bias": bias}
    dtype = weight.dtype if floats else x.dtype
    return launching.multiply(
        masked, plan, x, outputs, operands, at_end, atomic=atomic, dtype=dtype
    )


sparse_kernel(op="sparse_linear", **launching.SPLIT_K)(partial(sparse_linear, atomic=True))
