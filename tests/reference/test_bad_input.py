"""What the ops are not defined for is refused with the field, the value and what is wanted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import tolerance_used
from pytest_sparsity.reference.quantization import quantize_int4, quantize_int8
from pytest_sparsity.reference.semi_structured import pack

X, W, B = torch.ones(2, 8), torch.ones(4, 8), torch.ones(4)
HALF = "float32, not float16"
META = "on cpu, where x is, not on meta"


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


INT8 = quantize_int8(W)
PACKED = pack(torch.zeros(4, 8), 2, 4)
GOOD: dict[str, dict[str, Any]] = {
    "sparse_linear": {"x": X, "weight": W, "threshold": 0.5, "bias": B},
    "sparse_linear_indexed": {"x": X, "weight": W, "indices": ints(0, 7), "bias": B},
    "sparse_qkv": {
        "x": X, "weight": W, "sizes": (2, 1, 1), "thresholds": (0.5, 0.0, 1.0), "bias": B,
    },
    "sparse_swiglu": {"x": X, "gate": W, "up": W, "down": torch.ones(3, 4), "threshold": 0.5},
    "hot_cold_mlp": {
        "x": X, "up": W, "down": torch.ones(3, 4), "hot": 2, "cold": ints(3), "gate": W,
    },
    "sparse_quantized_linear": {"x": X, "weight": INT8, "threshold": 0.5, "bias": B},
    "semi_structured_linear": {"x": X, "weight": PACKED, "threshold": 0.5, "bias": B},
    "compact": {"x": X, "threshold": 0.5},
}  # fmt: skip


def refused(op: str, changes: dict[str, Any], message: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^{message}$"):
        OPS[op].inputs(**GOOD[op] | changes)


def test_every_op_has_its_good_case() -> None:
    assert set(GOOD) == set(OPS)
    for op, operands in GOOD.items():
        OPS[op].inputs(**operands)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(8), "x must have 2 dimensions, not 1"),
        (torch.ones(9, 8), "x must have 1 to 8 rows, not 9"),
        (torch.ones(0, 8), "x must have 1 to 8 rows, not 0"),
        (torch.ones(2, 0), "x must have at least one channel"),
        (X.int(), "x must be float32 or bfloat16 or float16, not int32"),
        (X.double(), "x must be float32 or bfloat16 or float16, not float64"),
    ],
)
def test_activations(op: str, x: torch.Tensor, message: str) -> None:
    refused(op, {"x": x}, message, ValueError)


@pytest.mark.parametrize("op", OPS)
def test_activations_of_another_type(op: str) -> None:
    refused(op, {"x": [[1.0]]}, "x must be a tensor, not list", TypeError)


@pytest.mark.parametrize("op", [op for op in OPS if "threshold" in GOOD[op]])
@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_thresholds(op: str, threshold: float) -> None:
    message = f"threshold must be finite and at least 0, not {threshold}"
    refused(op, {"threshold": threshold}, message, ValueError)


def test_threshold_beyond_the_dtype() -> None:
    message = "threshold 1000000.0 is beyond the range of torch.float16"
    refused("compact", {"x": X.half(), "threshold": 1e6}, message, ValueError)


@pytest.mark.parametrize(
    ("op", "field"),
    [
        ("sparse_linear", "weight"), ("sparse_linear_indexed", "weight"), ("sparse_qkv", "weight"),
        ("sparse_swiglu", "gate"), ("sparse_swiglu", "up"), ("sparse_swiglu", "down"),
        ("hot_cold_mlp", "up"), ("hot_cold_mlp", "down"), ("hot_cold_mlp", "gate"),
    ],
)  # fmt: skip
def test_weights(op: str, field: str) -> None:
    good = GOOD[op][field]
    rows, columns = good.shape
    wide = rf"{field} must have shape \({rows}, {columns}\), not \({rows}, {columns + 1}\)"
    for value, message in (
        (good[0], f"{field} must have 2 dimensions, not 1"),
        (good.half(), f"{field} must be {HALF}"),
        (good.to("meta"), f"{field} must be {META}"),
        (torch.ones(rows, columns + 1), wide),
    ):
        refused(op, {field: value}, message, ValueError)
    refused(op, {field: 1}, f"{field} must be a tensor, not int", TypeError)


@pytest.mark.parametrize("op", [op for op in OPS if "bias" in GOOD[op]])
@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (torch.ones(3), r"bias must have shape \(4,\), not \(3,\)"),
        (torch.ones(4, 1), "bias must have 1 dimensions, not 2"),
        (B.half(), f"bias must be {HALF}"),
        (B.to("meta"), f"bias must be {META}"),
    ],
)
def test_biases(op: str, bias: torch.Tensor, message: str) -> None:
    refused(op, {"bias": bias}, message, ValueError)


@pytest.mark.parametrize(
    ("op", "field", "start"), [("sparse_linear_indexed", "indices", 0), ("hot_cold_mlp", "cold", 2)]
)
def test_lists(op: str, field: str, start: int) -> None:
    stop = 8 if op == "sparse_linear_indexed" else 4
    sorted_ = f"{field} must be sorted and without repetition"
    for value, message in (
        (ints(3, 2), sorted_),
        (ints(3, 3), sorted_),
        (ints(3, stop), f"{field} must be from {start} to {stop - 1}, not {stop}"),
        (ints(start - 1, 3), f"{field} must be from {start} to {stop - 1}, not {start - 1}"),
        (ints(3).long(), f"{field} must be int32, not int64"),
        (ints(3)[:, None], f"{field} must have 1 dimensions, not 2"),
        (ints(3).to("meta"), f"{field} must be {META}"),
    ):
        refused(op, {field: value}, message, ValueError)
    OPS[op].inputs(**GOOD[op] | {field: ints()})


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("sparse_qkv", {"sizes": (2, 2)}, "sizes must be three numbers, of q, k and v, not 2"),
        ("sparse_qkv", {"sizes": (4, 0, 0)}, "sizes must be at least 1, not 0"),
        ("sparse_qkv", {"sizes": (2, 2, 1)}, "sizes must add up to the 4 rows of weight, not to 5"),
        ("sparse_qkv", {"thresholds": (0.5,)}, "thresholds must be three numbers, .*, not 1"),
        ("sparse_qkv", {"thresholds": (0.5, 0.5, -1.0)},
         r"thresholds\[2\] must be finite and at least 0, not -1.0"),
        ("sparse_swiglu", {"activation": "swish"},
         "activation must be one of silu, gelu_tanh, relu, relu2, not 'swish'"),
        ("hot_cold_mlp", {"activation": "gelu"},
         "activation must be one of silu, gelu_tanh, relu, relu2, not 'gelu'"),
        ("hot_cold_mlp", {"hot": -1}, "hot must be from 0 to 4, the rows of up, not -1"),
        ("hot_cold_mlp", {"hot": 5}, "hot must be from 0 to 4, the rows of up, not 5"),
        ("hot_cold_mlp", {"hot": 4}, "cold must be empty, since there are no numbers from 4 to 3"),
        ("sparse_quantized_linear", {"weight": quantize_int8(torch.ones(4, 6))},
         "weight must have 8 channels, as x has, not 6"),
        ("sparse_quantized_linear", {"weight": quantize_int4(W.half(), 2)},
         f"weight.scales must be {HALF}"),
        ("semi_structured_linear", {"weight": pack(torch.zeros(4, 4), 2, 4)},
         "weight must have 8 channels, as x has, not 4"),
        ("semi_structured_linear", {"weight": pack(torch.zeros(4, 8).half(), 2, 4)},
         f"weight.values must be {HALF}"),
    ],
)  # fmt: skip
def test_what_is_special_to_an_op(op: str, changes: dict[str, Any], message: str) -> None:
    refused(op, changes, message, ValueError)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("sparse_quantized_linear", "QuantizedWeight"),
        ("semi_structured_linear", "SemiStructuredWeight"),
    ],
)
def test_packed_weights_of_another_type(op: str, kind: str) -> None:
    refused(op, {"weight": W}, f"weight must be a {kind}, not Tensor", TypeError)
    meta = {"x": X.to("meta"), "bias": None}
    refused(op, meta, "weight must be on meta, where x is, not on cpu", ValueError)


def test_output_of_the_wrong_shape_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"^output must have shape \(2, 4\), not \(4, 2\)$"):
        tolerance_used(torch.ones(4, 2), torch.ones(2, 4), torch.ones(2, 4))
