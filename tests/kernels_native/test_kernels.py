"""Native kernels against their float64 definitions: shapes, dtypes, layouts, special values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity.kernels.native import (
    dense_linear,
    library,
    sparse_linear,
    sparse_quantized_linear,
    sparse_swiglu,
)
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.operands import arguments
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.quantization import (
    QuantizedWeight,
    dequantize,
    quantize_int4,
    quantize_int8,
)

pytestmark = pytest.mark.skipif(
    library.unavailable() is not None, reason=str(library.unavailable())
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (7, 2), (33, 17), (64, 96), (200, 288), (41, 131))
LEVELS = (0.0, 0.5, 0.9, 1.0)
KERNELS = {
    "sparse_linear": sparse_linear.sparse_linear,
    "sparse_quantized_linear": sparse_quantized_linear.sparse_quantized_linear,
    "sparse_swiglu": sparse_swiglu.sparse_swiglu,
}
nan, inf = math.nan, math.inf


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def activations(rows: int, channels: int, dtype: torch.dtype, level: float) -> tuple[Tensor, float]:
    """x with ties at its threshold, and the threshold: the share ``level`` is inactive."""
    x = random(rows, channels, dtype=dtype)
    rank = math.ceil(level * x.numel())
    threshold = float(x.abs().flatten().sort().values[rank - 1]) if rank else 0.0
    x[-1, -1] = -threshold
    return x, threshold


def input_major(weight: Tensor) -> Tensor:
    return weight.T.contiguous().T


LAYOUTS = {
    "input-major": input_major,
    "output-major": lambda weight: weight,
    "pitch": lambda weight: input_major(torch.cat([weight, weight]))[: weight.shape[0]],
    "neither": lambda weight: torch.stack([weight, weight], 2)[:, :, 0],
}


def assert_right(op: str, operands: Any) -> None:
    precision = Precision(operands.x.dtype, torch.float32, torch.float32)
    output = KERNELS[op](**arguments(operands))
    assert output.dtype == operands.x.dtype
    bound = OPS[op].bound
    assert bound is not None
    assert tolerance_used(output, OPS[op].define(operands), bound(operands, precision)).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_linear(dtype: torch.dtype, layout: str) -> None:
    for channels, outputs in SHAPES:
        for rows, level in zip((1, 2, 5, 8), LEVELS, strict=True):
            x, threshold = activations(rows, channels, dtype, level)
            weight = LAYOUTS[layout](random(outputs, channels, dtype=dtype))
            bias = random(outputs, dtype=dtype) if rows != 2 else None
            inputs = OPS["sparse_linear"].inputs(x, weight, threshold, bias)
            assert_right("sparse_linear", inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_linear(dtype: torch.dtype, layout: str) -> None:
    for channels, outputs in SHAPES:
        x, _ = activations(3, channels, dtype, 0.5)
        weight = LAYOUTS[layout](random(outputs, channels, dtype=dtype))
        bias = random(outputs, dtype=dtype)
        op = OPS["sparse_linear"]
        inputs = op.inputs(x + 9, weight, 0.0, bias)
        output = dense_linear.dense_linear(x + 9, weight, bias)
        assert op.bound is not None
        bound = op.bound(inputs, Precision(dtype, torch.float32, torch.float32))
        assert tolerance_used(output, op.define(inputs), bound).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "bits_and_group", [(8, 0), (4, 1), (4, 6), (4, 12), (4, 32), (4, 64), (4, 96)]
)
def test_sparse_quantized_linear(dtype: torch.dtype, bits_and_group: tuple[int, int]) -> None:
    bits, group = bits_and_group
    for channels, outputs in SHAPES:
        for rows, level in zip((1, 2, 5, 8), LEVELS, strict=True):
            x, threshold = activations(rows, channels, dtype, level)
            dense = random(outputs, channels, dtype=dtype)
            weight = quantize_int8(dense) if bits == 8 else quantize_int4(dense, group, pad=True)
            bias = random(outputs, dtype=dtype) if rows != 2 else None
            inputs = OPS["sparse_quantized_linear"].inputs(x, weight, threshold, bias)
            assert_right("sparse_quantized_linear", inputs)


HALVES_AND_GROUPS = [
    (half, groups)
    for half in (4, 28, 32, 36, 60, 64, 100, 160)
    for groups in (1, 2, 3, 5)
    if 2 * half % groups == 0
]


@pytest.mark.parametrize(("half", "groups"), HALVES_AND_GROUPS)
def test_groups_that_meet_inside_a_block(half: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(half)
    payload = torch.randint(0, 256, (19, half + 7), dtype=torch.uint8, generator=generator)
    scales = torch.rand(19, groups, generator=generator) + 0.5
    weight = QuantizedWeight(payload[:, :half], scales, 4, 2 * half - 1)
    x, threshold = activations(2, 19, torch.float32, 0.25)
    inputs = OPS["sparse_quantized_linear"].inputs(x, weight, threshold)
    assert_right("sparse_quantized_linear", inputs)


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_are_exact(bits: int) -> None:
    """Values, nibble order and group of every single weight."""
    weight = random(200, 24)
    packed = quantize_int8(weight) if bits == 8 else quantize_int4(weight, 40)
    packed = QuantizedWeight(packed.payload, packed.scales.exp2().round(), bits, packed.features)
    for start in range(0, 24, 8):
        x = torch.zeros(8, 24)
        x[:, start : start + 8] = torch.eye(8)
        output = KERNELS["sparse_quantized_linear"](x, packed, 0.5)
        assert torch.equal(output.double(), dequantize(packed)[:, start : start + 8].T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_swiglu(dtype: torch.dtype, activation: str) -> None:
    layouts = tuple(LAYOUTS.values())
    for number, (channels, outputs) in enumerate(SHAPES):
        for rows, threshold in ((1, 0.0), (3, 0.3), (8, 1.0)):
            gate, up = random(2, 37, channels, dtype=dtype) / channels**0.5
            inputs = OPS["sparse_swiglu"].inputs(
                random(rows, channels, dtype=dtype),
                layouts[(number + 1) % 4](gate),
                layouts[number % 4](up),
                layouts[number % 4](random(outputs, 37, dtype=dtype)),
                threshold,
                activation,
            )
            assert_right("sparse_swiglu", inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_spoils_its_row_only(dtype: torch.dtype, value: float) -> None:
    x = random(3, 40, dtype=dtype)
    x[1, 39] = value
    weight = input_major(random(21, 40, dtype=dtype))
    for op, packed in (
        ("sparse_linear", weight),
        ("sparse_quantized_linear", quantize_int8(weight)),
        ("sparse_quantized_linear", quantize_int4(weight, 1, pad=True)),
    ):
        inputs = OPS[op].inputs(x, packed, 0.5)
        assert_right(op, inputs)
        assert not KERNELS[op](x, packed, 0.5)[1].isfinite().all()


def test_skipped_weights_are_not_read_and_do_not_spoil_other_rows() -> None:
    x = torch.zeros(2, 100)
    x[0, 3], x[1, 70] = 1.0, 2.0
    weight = input_major(torch.full((33, 100), nan))
    weight[:, 70] = 1.0
    output = KERNELS["sparse_linear"](x, weight, 0.5)
    assert output[0].isnan().all()
    assert torch.equal(output[1], torch.full((33,), 2.0))


def test_every_half_number_is_converted_exactly() -> None:
    """All 65536 numbers of both 16-bit dtypes through widening; rounding back gives them again."""
    for dtype in (torch.bfloat16, torch.float16):
        numbers = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
        x = torch.ones(1, 1, dtype=dtype)
        output = KERNELS["sparse_linear"](x, numbers[:, None], 0.5)[0]
        normal = numbers.isfinite()
        assert torch.equal(output[normal], numbers[normal])
        assert torch.equal(output.isnan(), numbers.isnan())
        assert torch.equal(output.isinf(), numbers.isinf())


def test_rounding_to_half_is_to_nearest() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        scale = torch.logspace(-9, 5, 3000).to(dtype)
        x = torch.tensor([[1.0, 1.0]], dtype=dtype)
        weight = torch.stack([scale, scale.roll(3) / 300], 1)
        output = KERNELS["sparse_linear"](x, weight, 0.5)[0]
        assert torch.equal(output, weight.float().sum(1).to(dtype))


def test_two_runs_give_the_same_bits() -> None:
    x, threshold = activations(4, 300, torch.bfloat16, 0.4)
    weight = input_major(random(130, 300, dtype=torch.bfloat16))
    first = KERNELS["sparse_linear"](x, weight, threshold)
    assert torch.equal(first, KERNELS["sparse_linear"](x, weight, threshold))


def test_wrong_operands_are_refused() -> None:
    with pytest.raises(ValueError, match="weight must"):
        sparse_linear.sparse_linear(torch.ones(1, 3), torch.ones(2, 4), 0.5)
    x, weight = torch.ones(1, 3, device="meta"), torch.ones(2, 3, device="meta")
    with pytest.raises(ValueError, match="x must be on the CPU"):
        sparse_linear.sparse_linear(x, weight, 0.5)
