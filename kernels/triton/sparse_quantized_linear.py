"""``sparse_quantized_linear`` in Triton: weights in 8 or 4 bits, float32 sums.

The scales of 8 bits, one per output, multiply the sums.  Those of 4 bits belong to channels, and
multiply the activations: one product per group of outputs and not per weight.
"""

from __future__ import annotations

from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.configurations import Product
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs


@sparse_kernel(op="sparse_quantized_linear", backend="triton", unavailable=launching.unavailable)
def sparse_quantized_linear(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [1 to 8 rows, K], weight of N outputs: [rows, N], in x's dtype.

    Four bits are fast if groups and half of the outputs divide by 16, right for any.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQuantizedLinearInputs`` asks
            for, or not on a GPU.
    """
    SparseQuantizedLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias)


@sparse_kernel(
    op="sparse_quantized_linear",
    backend="triton",
    name="triton-split-k",
    deterministic=False,
    unavailable=launching.unavailable,
)
def sparse_quantized_linear_split_k(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """:func:`sparse_quantized_linear`, with atomics that add the splits' parts as they come."""
    SparseQuantizedLinearInputs(x, weight, threshold, bias)
    launching.check_device(x)
    return unchecked(x, weight, threshold, bias, atomic=True)


def unchecked(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, atomic: bool = False
) -> Tensor:
    """:func:`sparse_quantized_linear` for operands checked before; wrong ones do anything."""
    product = _eight_bits if weight.bits == 8 else _four_bits
    return product(x, weight, round_to(threshold, x.dtype), bias, atomic)


def _eight_bits(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, atomic: bool
) -> Tensor:
    from pytest_sparsity.kernels.triton._jit.masked import masked

    payload, outputs, channels = weight.payload, weight.features, x.shape[1]
    plan = configurations.product(
        "bytes", len(x), outputs, channels, payload.element_size(), launching.processors(x)
    )

    def start(target: Tensor, scales: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            masked,
            plan.grid,
            x,
            *(None, payload, scales, bias, target),
            *(len(x), outputs, channels, plan.share, threshold),
            *(*x.stride(), payload.stride(1), payload.stride(0)),
            warps=plan.warps,
            ATOMIC=atomic,
            **plan.tile,
        )

    scales = weight.scales.contiguous()
    return launching.multiply(start, x, outputs, plan, bias=bias, scales=scales, atomic=atomic)


def _four_bits(
    x: Tensor, weight: QuantizedWeight, threshold: float, bias: Tensor | None, atomic: bool
) -> Tensor:
    from pytest_sparsity.kernels.triton._jit.nibbles import nibbles

    payload, scales, (channels, width) = weight.payload, weight.scales, weight.payload.shape
    plan = configurations.product(
        "nibbles", len(x), width, channels, payload.element_size(), launching.processors(x)
    )
    together = configurations.bytes_per_scale(weight.group_size, width, plan.block)

    def start(target: Tensor, _: Tensor | None, bias: Tensor | None, plan: Product) -> None:
        launching.launch(
            nibbles,
            plan.grid,
            x,
            *(payload, scales, bias, target),
            *(len(x), weight.features, width, weight.group_size, channels, plan.share, threshold),
            *(*x.stride(), payload.stride(0), scales.stride(0)),
            warps=plan.warps,
            ROWS=plan.rows,
            UNROLL=plan.unroll,
            LANES=plan.lanes,
            BLOCKS=plan.block // together,
            BYTES=together,
            ATOMIC=atomic,
        )

    return launching.multiply(start, x, weight.features, plan, bias=bias, atomic=atomic)
