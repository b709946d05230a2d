"""``sparse_quantized_linear`` in Triton: weights in 8 or 4 bits, float32 sums.

The scales of 8 bits, one per output, multiply the sums.  Those of 4 bits belong to channels, and
multiply the activations: one product per group of outputs and not per weight.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.sparse_linear import masked_product
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs


@sparse_kernel(op="sparse_quantized_linear", backend="triton", unavailable=launching.unavailable)
def sparse_quantized_linear(
    x: Tensor, weight: QuantizedWeight, threshold: float,
    bias: Tensor | None = None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """W S_t(x) + b for x [1 to 8 rows, K], weight of N outputs: [rows, N], in x's dtype.

    Four bits are fast if groups and half of the outputs divide by 16, right for any.  With
    ``atomic`` the splits' parts are added as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQuantizedLinearInputs`` asks
            for, or not on a GPU.
    """
    launching.check(SparseQuantizedLinearInputs(x, weight, threshold, bias))
    return unchecked(x, weight, threshold, bias, atomic)


def unchecked(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, atomic: bool = False
) -> Tensor:
    """:func:`sparse_quantized_linear` for operands checked before; wrong ones do anything."""
    limit = round_to(threshold, x.dtype)
    if weight.bits == 4:
        return _four_bits(x, weight, limit, bias, atomic)
    return masked_product(x, None, weight.payload.T, limit, bias, weight.scales, atomic)


def _four_bits(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, atomic: bool
) -> Tensor:
    from pytest_sparsity.kernels.triton._jit.nibbles import nibbles

    payload, scales, (channels, width) = weight.payload, weight.scales, weight.payload.shape
    outputs, group = weight.features, weight.group_size
    plan = launching.division("nibbles", x, payload, width, channels)
    operands = {"payload": payload, "scales": scales, "threshold": threshold}
    operands |= {"width": width, "group": group, "channels": channels}
    operands |= {"payload_channel": payload.stride(0), "scales_channel": scales.stride(0)}
    operands |= {"BYTES": configurations.bytes_per_scale(group, width, plan.block)}
    return launching.multiply(nibbles, plan, x, outputs, operands, {"bias": bias}, atomic=atomic)


sparse_kernel(op="sparse_quantized_linear", **launching.SPLIT_K)(
    partial(sparse_quantized_linear, atomic=True)
)
