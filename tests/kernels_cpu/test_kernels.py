"""The kernels compiled by numba, and torch's compositions, against their definitions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.operands import arguments
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import tolerance_used
from pytest_sparsity.reference.quantization import quantize_int4, quantize_int8
from pytest_sparsity.reference.semi_structured import PATTERNS, pack, prune

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
nan, inf = math.nan, math.inf


def used(id: str, inputs: Any) -> float:
    """The largest error over bound of a kernel's result."""
    found = kernel(id)
    output = found.call(**arguments(inputs))
    assert output.dtype == inputs.x.dtype
    bound = found.definition.bound
    assert bound is not None
    precision = found.precision(inputs.x.dtype)
    ratio = tolerance_used(output, found.definition.define(inputs), bound(inputs, precision))
    return float(ratio.max())


def operands(op: str, seed: int, dtype: torch.dtype) -> Any:
    """Operands of odd shapes and layouts, with ties at the threshold."""
    draw = random.Random(f"{op} {seed} {dtype}")
    generator = torch.Generator().manual_seed(draw.randrange(2**32))

    def randn(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).to(dtype)

    def weight(outputs: int, channels: int) -> Tensor:
        return draw.choice(LAYOUTS)(randn(outputs, channels))

    rows, outputs = draw.choice((1, 1, 2, 3, 8)), draw.choice((3, 31, 32, 33, 67, 130))
    channels, neurons = draw.choice((1, 7, 33, 130)), draw.choice((1, 9, 64, 131))
    level = draw.choice((0.0, 0.5, 0.9, 1.0))
    n, m = draw.choice(PATTERNS)
    if op == "semi_structured_linear":
        channels = m * draw.choice((1, 5))
    x = LAYOUTS[draw.choice((0, 2))](randn(rows, channels))
    magnitudes = x.abs().float().flatten().sort().values
    threshold = 0.0 if level == 0 else float(magnitudes[int(level * (len(magnitudes) - 1))])
    bias = randn(outputs) if draw.random() < 0.5 else None

    def some(start: int, stop: int) -> Tensor:
        chosen = draw.sample(range(start, stop), draw.randint(0, stop - start))
        return torch.tensor(sorted(chosen), dtype=torch.int32)

    activation = draw.choice(ACTIVATIONS)
    if op == "sparse_swiglu":
        gate, up = weight(neurons, channels), weight(neurons, channels)
        down = weight(outputs, neurons)
        return OPS[op].inputs(x, gate, up, down, draw.choice((0.0, 0.1, 1.0)), activation)
    if op == "hot_cold_mlp":
        hot = draw.randint(0, neurons)
        gate = draw.choice((None, weight(neurons, channels)))
        up, down = weight(neurons, channels), weight(outputs, neurons)
        return OPS[op].inputs(x, up, down, hot, some(hot, neurons), activation, gate)
    if op == "sparse_linear_indexed":
        return OPS[op].inputs(x, weight(outputs, channels), some(0, channels), bias)
    if op == "sparse_qkv":
        sizes, thresholds = (outputs - 2, 1, 1), (threshold, threshold / 2, 0.0)
        return OPS[op].inputs(x, weight(outputs, channels), sizes, thresholds, bias)
    plain = randn(outputs, channels)
    packed: Any = plain
    if op == "sparse_linear":
        packed = draw.choice(LAYOUTS)(plain)
    elif op == "semi_structured_linear":
        packed = pack(prune(plain, n, m), n, m)
    elif draw.random() < 0.4:
        packed = quantize_int8(plain)
    else:
        packed = quantize_int4(plain, draw.choice((1, 3, 32, 64)), pad=True)
    return OPS[op].inputs(x, packed, threshold, bias)


def pitched(tensor: Tensor) -> Tensor:
    """A transposed window of a larger matrix of NaN."""
    rows, columns = tensor.shape
    around = torch.full((columns + 3, rows + 5), nan, dtype=tensor.dtype)
    window = around[2:-1, 1:-4]
    window.copy_(tensor.T)
    return window.T


LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda tensor: tensor,
    lambda tensor: tensor.T.contiguous().T,
    lambda tensor: torch.stack([tensor, tensor], 2)[:, :, 1],
    pitched,
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("op", sorted(set(OPS) - {"compact"}))
def test_results_are_within_the_bound(op: str, backend: str, dtype: torch.dtype) -> None:
    for seed in range(12):
        assert used(f"{op}/{backend}", operands(op, seed, dtype)) <= 1, seed


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_compact(dtype: torch.dtype, backend: str) -> None:
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    rows = [[0.5, -0.5, nan, inf, 0.25, -tiny, -0.0], [0.0, 0.75, 0.0, 0.0, -0.5, 0.0, 0.0]]
    x = torch.tensor(rows, dtype=dtype)
    call = kernel(f"compact/{backend}").call
    assert call(x=x, threshold=0.5).tolist() == [1, 2, 3]
    assert call(x=x, threshold=0.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert call(x=x.T.contiguous().T[:1], threshold=0.4).tolist() == [0, 1, 2, 3]
    assert call(x=torch.zeros(1, 3, dtype=dtype), threshold=0.0).dtype == torch.int32


@pytest.mark.parametrize("threshold", [0.1, 0.30000001, 3e-6])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threshold_is_rounded_as_torch_rounds(dtype: torch.dtype, threshold: float) -> None:
    tie = torch.tensor(threshold, dtype=dtype)
    above = torch.nextafter(tie, torch.tensor(1.0, dtype=dtype))
    x = torch.stack([tie, -tie, above, -above])[None]
    assert kernel("compact/cpu").call(x=x, threshold=threshold).tolist() == [2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_all_numbers_of_16_bits_go_through(dtype: torch.dtype) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    every = bits.view(dtype)[:, None]
    linear = kernel("sparse_linear/cpu").call
    x = torch.ones(1, 1, dtype=dtype)
    as_weight = linear(x=x, weight=every, threshold=0.5)[0]
    # -0 becomes 0, which is equal; and NaN stays NaN.
    assert torch.equal(as_weight.nan_to_num(nan=7.0), every[:, 0].nan_to_num(nan=7.0))
    assert torch.equal(as_weight.isnan(), every[:, 0].isnan())
    for row in every[::1001].split(8):
        result = linear(x=row, weight=x, threshold=0.0)
        assert torch.equal(result.nan_to_num(nan=7.0), row.nan_to_num(nan=7.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_is_torchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2**15, (2, 4096), generator=generator, dtype=torch.int16)
    factors = bits.view(dtype)
    # One product and no sum: the result is the product, rounded once.
    exact = factors[0].double() * factors[1].double()
    linear = kernel("sparse_linear/cpu").call
    output = torch.cat(
        [
            linear(x=x, weight=weight[:, None], threshold=0.0)
            for x, weight in zip(factors[0].view(-1, 1, 1), factors[1].view(-1, 1), strict=True)
        ]
    ).flatten()
    expected = exact.float().to(dtype)
    expected[factors[0] == 0] = 0
    assert torch.equal(output.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0))


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_spoils_its_row_alone(dtype: torch.dtype, value: float) -> None:
    inputs = operands("sparse_linear", 3, dtype)
    x = torch.cat([inputs.x[:1], inputs.x[:1]])
    x[0, -1] = value
    weight = torch.ones(40, x.shape[1], dtype=dtype).T.contiguous().T
    output = kernel("sparse_linear/cpu").call(x=x, weight=weight, threshold=inputs.threshold)
    assert not output[0].isfinite().any()
    assert output[1].isfinite().all()


@pytest.mark.parametrize("rows", [1, 2, 8])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_range_of_outputs_has_the_same_bits(dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 301, generator=generator).to(dtype)
    weight = torch.randn(301, 203, generator=generator).to(dtype).T
    linear = kernel("sparse_linear/cpu").call
    whole = linear(x=x, weight=weight, threshold=0.4)
    parts = [linear(x=x, weight=part, threshold=0.4) for part in weight.split([101, 102])]
    assert torch.equal(whole, torch.cat(parts, dim=1))
    assert all(torch.equal(whole, linear(x=x, weight=weight, threshold=0.4)) for _ in range(5))


@pytest.mark.parametrize("seed", range(4))
def test_skipped_weights_may_be_nan(seed: int) -> None:
    for op in sorted(set(OPS) - {"compact", "semi_structured_linear", "sparse_quantized_linear"}):
        inputs = operands(op, seed, torch.bfloat16)
        for name, mask in OPS[op].needed(inputs).items():
            weight = getattr(inputs, name)
            weight[~mask] = nan
        assert used(f"{op}/cpu", inputs) <= 1


def test_unchecked_entries_write_where_they_are_told() -> None:
    from pytest_sparsity.kernels.cpu import dense_linear, sparse_linear

    x, bias = torch.randn(3, 50).bfloat16(), torch.randn(70).bfloat16()
    weight = torch.randn(50, 70).bfloat16().T
    expected = sparse_linear.sparse_linear(x, weight, 0.5, bias)
    around = torch.full((3, 80), nan, dtype=torch.bfloat16)
    sparse_linear.run(x, weight, 0.5, bias, around[:, 4:74])
    assert torch.equal(around[:, 4:74], expected)
    assert around[:, :4].isnan().all()
    assert around[:, 74:].isnan().all()
    out = torch.full((3, 70), nan, dtype=torch.bfloat16)
    sparse_linear.prepared(weight, 0.5, bias)(x, out)
    assert torch.equal(out, expected)
    for layout in (weight, weight.contiguous()):
        dense = dense_linear.dense_linear(x, layout, bias)
        torch.testing.assert_close(dense, torch.nn.functional.linear(x, layout, bias))


def test_operands_are_checked() -> None:
    x, weight = torch.ones(1, 4), torch.ones(3, 4)
    linear = kernel("sparse_linear/cpu").call
    with pytest.raises(ValueError, match=r"^threshold must be finite and at least 0, not -1"):
        linear(x=x, weight=weight, threshold=-1.0)
    with pytest.raises(ValueError, match=r"^weight must be float32, not bfloat16$"):
        linear(x=x, weight=weight.bfloat16(), threshold=0.0)
    with pytest.raises(ValueError, match=r"^x must be on the CPU .*, not on meta$"):
        linear(x=x.to("meta"), weight=weight.to("meta"), threshold=0.0)
