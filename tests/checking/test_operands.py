"""Operands are what their case says: which channels, at which side of the threshold, where."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from pytest_sparsity.checking.case import PATTERNS
from pytest_sparsity.checking.records import record
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.registry import DTYPES
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.testing import Case


def build(op: str, case: Case) -> Any:
    return record(op).build(case)


Draw = Callable[..., list[Case]]


@pytest.mark.parametrize("op", OPS)
def test_the_same_case_gives_the_same_operands(op: str, drawn: Draw) -> None:
    for case in drawn(op, 20):
        first, second = (operands.tensors(build(op, case)) for _ in range(2))
        for name, tensor in first.items():
            assert tensor.stride() == second[name].stride()
            torch.testing.assert_close(tensor, second[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op].bound])
def test_operands_have_a_definition_and_a_bound(op: str, drawn: Draw) -> None:
    define, bound = OPS[op].define, OPS[op].bound
    assert bound is not None
    for case in drawn(op, 40):
        if case.pattern in ("infinite", "nan"):
            continue
        inputs = build(op, case)
        reference = define(inputs)
        assert reference.shape == (case.rows, case.n)
        assert reference.isfinite().all()
        assert (
            (reference.abs() <= 65504).all()
            or case.dtype != "float16"
            or case.pattern == "overflow"
        )
        precision = Precision(inputs.x.dtype, torch.float32, torch.float32)
        assert bound(inputs, precision).isfinite().all()


def linear(pattern: str, dtype: str = "float32", **fields: Any) -> Any:
    fields = {"rows": 3, "k": 300, "n": 2, "seed": 5} | fields
    return build("sparse_linear", Case(dtype=dtype, pattern=pattern, **fields))


@pytest.mark.parametrize(("pattern", "dtype"), [*product(PATTERNS, DTYPES)])
def test_threshold_is_approached_from_both_sides(pattern: str, dtype: str) -> None:
    inputs = linear(pattern, dtype)
    x, t = inputs.x.abs(), torch.tensor(inputs.threshold).to(inputs.x)
    active = operands.active(inputs.x, inputs.threshold)
    if pattern != "inexact":
        assert float(t) == inputs.threshold
    else:
        assert float(t) != inputs.threshold
    if pattern not in ("all", "one", "none"):
        assert 0 < active.sum() < active.numel()
        assert (x == t).any()
        above = torch.nextafter(t, torch.tensor(math.inf).to(t))
        assert (x == above).any()
    if pattern not in ("all", "zeros"):
        assert (inputs.x == t).any()
        assert (inputs.x == -t).any()
    if pattern not in ("all", "ties"):
        assert inputs.x[inputs.x == 0].signbit().any()


def test_patterns() -> None:
    def active(pattern: str) -> torch.Tensor:
        inputs = linear(pattern, level=0.9)
        return operands.active(inputs.x, inputs.threshold)

    assert active("all").all()
    assert not active("none").any()
    assert active("one").sum(1).tolist() == [1, 1, 1]
    assert active("first")[:, 0].all()
    assert active("last")[:, -1].all()
    assert (active("alternating")[0] == (torch.arange(300) % 2 == 0)).all()
    assert active("rows_differ").any(1).tolist() == [True, False, True]
    blocks = active("blocks")[:, :288].unflatten(1, (9, 32))
    assert (blocks.all(2) | ~blocks.any(2)).all()
    rows = active("random")
    assert not torch.equal(rows[0], rows[1])
    assert rows.double().mean().item() == pytest.approx(0.1, abs=0.04)


def test_special_values() -> None:
    assert linear("infinite").x.isinf().sum() == 1
    assert linear("nan").x.isnan().sum() == 1
    assert (linear("ties").x.abs() == linear("ties").threshold).double().mean() > 0.4
    assert linear("zeros").threshold == 0
    assert 0 < linear("denormal").threshold < torch.finfo(torch.float32).smallest_normal
    large = OPS["sparse_linear"].define(linear("large", "bfloat16"))
    assert large.abs().max() > 65504


def test_values(drawn: Draw) -> None:
    for op in OPS:
        for case in drawn(op, 10, values=("integer",), pattern=("random",)):
            for name, tensor in operands.tensors(build(op, case)).items():
                numbers = tensor.double()
                assert torch.equal(numbers, numbers.round()), (name, str(case))
    small = linear("random", values="small", n=50).weight
    assert small.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("layout", "strides", "offset", "pitch"),
    [
        ("best", (1, 2), 0, 300),
        ("input_major", (1, 2), 0, 300),
        ("output_major", (300, 1), 0, 300),
        ("pitch", (1, 9), 0, 307),
        ("column_slice", (307, 1), 3, 307),
        ("offset", (1, 2), 1, 300),
        ("strided", (2, 4), 0, 607),
    ],
)
def test_layouts(layout: str, strides: tuple[int, int], offset: int, pitch: int) -> None:
    inputs = linear("random", layout=layout, bias=True)
    assert inputs.weight.stride() == strides
    assert inputs.weight.storage_offset() == offset
    step = 2 if layout == "strided" else 1
    assert inputs.x.stride() == (pitch, step)
    assert inputs.bias.stride() == (step,)
    best = linear("random", bias=True)
    assert torch.equal(inputs.weight, best.weight)
    assert torch.equal(inputs.x, best.x)
    # What lies between is poison.
    around = inputs.weight.as_strided((inputs.weight.untyped_storage().nbytes() // 4,), (1,), 0)
    assert around.isnan().any() == (layout not in ("best", "input_major", "output_major"))


@pytest.mark.parametrize(
    ("op", "name"), [("sparse_linear_indexed", "indices"), ("hot_cold_mlp", "cold")]
)
def test_lists_are_strided_too(op: str, name: str) -> None:
    best, strided = (
        getattr(build(op, Case(1, 64, 4, layout=layout)), name) for layout in ("best", "strided")
    )
    assert (best.stride(), strided.stride()) == ((1,), (2,))
    assert torch.equal(best, strided)


def test_gate_and_up_are_best_output_major() -> None:
    inputs = build("sparse_swiglu", Case(1, 8, 6).with_options(hidden=5))
    assert inputs.gate.stride() == inputs.up.stride() == (8, 1)
    assert inputs.down.stride() == (1, 6)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "relu", "relu2"])
@pytest.mark.parametrize("pattern", ["random", "none", "first", "last", "one"])
def test_neurons_follow_the_pattern(pattern: str, activation: str) -> None:
    case = Case(1, 64, 4, level=0.8, pattern=pattern, seed=2)
    inputs = build("sparse_swiglu", case.with_options(hidden=100, activation=activation))
    # Neurons that a right kernel may take for either are needed as well: hardly any.
    needed = OPS["sparse_swiglu"].needed(inputs)["up"][:, 0]
    wanted = {"none": 0, "one": 1}.get(pattern, 20)
    assert abs(int(needed.sum()) - wanted) <= wanted / 2
    if pattern in ("first", "last"):
        assert needed[0 if pattern == "first" else -1]


def test_quantised_weights() -> None:
    inputs = build("sparse_quantized_linear", Case(1, 20, 33).with_options(bits=4, group=8))
    assert inputs.weight.payload.shape == (20, 20)
    assert inputs.weight.scales.shape == (20, 5)
    inputs = build("sparse_quantized_linear", Case(1, 300, 33, layout="pitch"))
    assert inputs.weight.payload.stride() == (40, 1)
    assert inputs.weight.payload.min() == -128
    assert (inputs.weight.scales == 0).sum() < 33


def test_thresholds_of_q_k_and_v() -> None:
    for pattern in ("random", "all", "none"):
        inputs = build("sparse_qkv", Case(2, 50, 6, pattern=pattern).with_options(sizes=(1, 2, 3)))
        assert len(set(inputs.thresholds)) == 3
        kept = [operands.active(inputs.x, t) for t in inputs.thresholds]
        if pattern != "random":
            assert all((keep == (pattern == "all")).all() for keep in kept)
        else:
            assert len({int(keep.sum()) for keep in kept}) == 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_leave_the_dtype_and_no_factor_does(dtype: str) -> None:
    inputs = linear("overflow", dtype, values="integer")
    reference = OPS["sparse_linear"].define(inputs)
    assert reference.isfinite().all()
    assert reference.to(getattr(torch, dtype)).isinf().all()
    assert inputs.x.isfinite().all()
    assert inputs.weight.isfinite().all()
    products = inputs.x.float() * inputs.weight[:1].float()
    assert products.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_q_k_and_v_leave_the_dtype_in_any_order(dtype: str) -> None:
    case = Case(1, 300, 6, dtype=dtype, pattern="overflow", options=(("sizes", (2, 2, 2)),))
    inputs = build("sparse_qkv", case)
    kept = operands.active(inputs.x, min(inputs.thresholds))
    assert kept.sum() > (inputs.x.abs() > max(inputs.thresholds)).sum()
    assert (inputs.x[kept] > 0).all()
    assert (inputs.x < 0).any()


@pytest.mark.parametrize(
    ("op", "weight"),
    [("sparse_linear", "weight"), ("sparse_swiglu", "down"), ("hot_cold_mlp", "down")],
)
def test_edge_cases_have_the_last_of_many_alone(op: str, weight: str) -> None:
    found = []
    for case in record(op).edge_cases(registry.kernel(f"{op}/torch")):
        many = case.k if weight == "weight" else case.option("hidden", 0)
        if case.pattern == "last" and many == 65539:
            assert OPS[op].define(build(op, case)).all()
            found += OPS[op].must_read(build(op, case))[weight].any(0).nonzero().flatten().tolist()
    assert 65538 in found
    assert len(found) < 10  # a threshold on gates is where few of them are near it


@pytest.mark.parametrize("op", ["sparse_swiglu", "hot_cold_mlp"])
def test_arguments_of_activations_leave_their_exponentials(op: str) -> None:
    case = Case(3, 64, 2, pattern="saturated", options=(("activation", "silu"), ("hidden", 64)))
    inputs = build(op, case)
    gate = inputs.x @ (inputs.up if getattr(inputs, "gate", None) is None else inputs.gate).T
    assert gate.max() > 100
    assert gate.min() < -100
