"""Quantised weights: what the integers mean, and how near they come."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_sparsity.reference.quantization import (
    QuantizedWeight,
    dequantize,
    quantize_int4,
    quantize_int8,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def drawn(seed: int, shape: tuple[int, int], dtype: torch.dtype, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * size).to(dtype)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(DTYPES),
    st.sampled_from((1e-7, 1e-3, 1.0, 1e3)),
)
def test_int8_round_trip(seed: int, n: int, k: int, dtype: torch.dtype, size: float) -> None:
    weight = drawn(seed, (n, k), dtype, size)
    packed = quantize_int8(weight)
    assert (packed.bits, packed.features, packed.group_size) == (8, n, 1)
    assert packed.payload.shape == (k, n)
    assert packed.payload.min() >= -127
    assert packed.scales.dtype == dtype
    error = (dequantize(packed) - weight.double()).abs()
    assert (error <= packed.scales.double()[:, None] / 2).all()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from((1, 2, 3, 4, 16, 32)),
    st.sampled_from(DTYPES),
    st.sampled_from((1e-7, 1e-3, 1.0, 1e3)),
)
def test_int4_round_trip(
    seed: int, n: int, k: int, group: int, dtype: torch.dtype, size: float
) -> None:
    weight = drawn(seed, (n, k), dtype, size)
    packed = quantize_int4(weight, group, pad=True)
    padded = 2 * packed.payload.shape[1]
    assert (packed.bits, packed.features, packed.group_size) == (4, n, group)
    assert n <= padded < n + math.lcm(2, group)
    assert packed.payload.shape == (k, padded // 2)
    assert packed.scales.shape == (k, padded // group)
    scales = packed.scales.double().repeat_interleave(group, dim=1).T[:n]
    assert ((dequantize(packed) - weight.double()).abs() <= scales / 2).all()


def test_int4_layout_by_hand() -> None:
    # One channel of six outputs and their padding to eight, in groups of four:
    # bytes hold outputs (0, 4), (1, 5), (2, padding), (3, padding); a nibble is value + 8.
    weight = torch.tensor([[7.0, -7.0, 1.0, 0.0, 14.0, -2.0]]).T
    packed = quantize_int4(weight, 4, pad=True)
    assert packed.scales.tolist() == [[1.0, 2.0]]
    assert packed.payload.tolist() == [[0xFF, 0x71, 0x89, 0x88]]
    assert torch.equal(dequantize(packed), weight.double())
    lowest = QuantizedWeight(torch.tensor([[0x80]], dtype=torch.uint8), torch.ones(1, 1), 4, 2)
    assert dequantize(lowest).tolist() == [[-8.0], [0.0]]


def test_int8_layout_by_hand() -> None:
    weight = torch.tensor([[127.0, -3.0, 0.4], [-254.0, 2.0, 5.0]])
    packed = quantize_int8(weight)
    assert packed.scales.tolist() == [1.0, 2.0]
    assert packed.payload.tolist() == [[127, -127], [-3, 1], [0, 2]]
    assert packed.payload.dtype == torch.int8


def test_zeros_stay_zeros() -> None:
    for packed in (quantize_int8(torch.zeros(4, 2)), quantize_int4(torch.zeros(4, 2), 2)):
        assert torch.equal(dequantize(packed), torch.zeros(4, 2).double())


def test_rows_may_have_a_pitch() -> None:
    packed = quantize_int8(drawn(0, (6, 5), torch.float32))
    wide = torch.zeros(5, 9, dtype=torch.int8)
    wide[:, :6] = packed.payload
    view = QuantizedWeight(wide[:, :6], packed.scales, 8, 6)
    assert torch.equal(dequantize(view), dequantize(packed))


BYTES, CHARS = torch.zeros(3, 4, dtype=torch.uint8), torch.zeros(3, 4, dtype=torch.int8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CHARS, torch.ones(4), 2, 4), "bits must be 4 or 8, not 2"),
        ((BYTES, torch.ones(4), 8, 4), "payload must be int8, not uint8"),
        ((CHARS, torch.ones(3, 1), 4, 8), "payload must be uint8, not int8"),
        ((CHARS[0], torch.ones(4), 8, 4), "payload must have 2 dimensions, not 1"),
        ((CHARS.T, torch.ones(3), 8, 3), "payload must have stride 1 in its last .*, not 4"),
        ((CHARS, torch.ones(8)[::2], 8, 4), "scales must have stride 1 in its last .*, not 2"),
        ((CHARS, torch.ones(5), 8, 4), r"scales must have shape \(4,\), not \(5,\)"),
        ((CHARS, torch.ones(4, 1), 8, 4), "scales must have 1 dimensions, not 2"),
        ((CHARS, torch.ones(4).long(), 8, 4), "scales must be float32 or .*, not int64"),
        ((CHARS, torch.ones(4, device="meta"), 8, 4), "scales must be on cpu, .* not on meta"),
        ((CHARS, torch.ones(4), 8, 3), "features must be 4, not 3"),
        ((BYTES, torch.ones(3, 2), 4, 9), "features must be from 1 to 8, not 9"),
        ((BYTES, torch.ones(3, 2), 4, 0), "features must be from 1 to 8, not 0"),
        ((BYTES, torch.ones(2, 2), 4, 8), "scales must have 3 rows, as payload has, not 2"),
        ((BYTES, torch.ones(3, 3), 4, 8), "scales must have .* columns that divides 8, not 3"),
    ],
)
def test_weights_are_checked(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        QuantizedWeight(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantize_int4(torch.ones(6, 2), 4), "group_size 4 does not divide the 6 outputs; "
         "choose one that does, or pass pad=True to pad them to 8"),
        (lambda: quantize_int4(torch.ones(3, 2), 3), "two outputs share a byte, and 3 is odd; "
         "pass pad=True to pad to 6"),
        (lambda: quantize_int4(torch.ones(3, 2), 0), "group_size must be at least 1, not 0"),
        (lambda: quantize_int8(torch.ones(3)), "weight must have 2 dimensions, not 1"),
        (lambda: quantize_int8(torch.ones(3, 2).long()), "weight must be float32 .*, not int64"),
        (lambda: quantize_int8(torch.ones(0, 2)), r"weight must not be empty, .* shape \(0, 2\)"),
        (lambda: quantize_int8(torch.full((2, 2), math.inf)), "weight must be finite, .*"),
    ],
)  # fmt: skip
def test_what_cannot_be_quantised(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
