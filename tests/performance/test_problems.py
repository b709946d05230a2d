"""What the kernel benchmark times is what it says: right operands, dense ways and ideals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pytest_sparsity.reference.operands import tensors
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.speed.problems import (
    Oracle,
    dense_ways,
    int4_problem,
    linear_problem,
    predicted_problem,
    qkv_problem,
    swiglu_problem,
)

LEVELS = (0.5, 0.75)
MAKERS = {
    "linear": linear_problem,
    "int4": int4_problem,
    "swiglu": swiglu_problem,
    "predicted": predicted_problem,
    "qkv": lambda k, n, *rest: qkv_problem(k, (n - 64, 32, 32), *rest),
}
PLAIN = Precision(torch.bfloat16, torch.float32, torch.bfloat16)


@pytest.fixture(scope="module", params=MAKERS)
def problem(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param](128, 256, LEVELS, dense_ways("cpu"), "cpu", 3)


def test_dense_ways_compute_the_op(problem: Any) -> None:
    oracle = Oracle(problem, 0.0)
    assert {"torch F.linear", "cpu row-dot"} <= problem.dense.keys()
    for name, run in problem.dense.items():
        assert oracle.tolerance_used(run(), PLAIN) <= 1, name


def test_an_oracle_tells_wrong_results(problem: Any) -> None:
    wrong = OPS[problem.op].define(problem.at[0.0]).bfloat16() * 1.1
    assert Oracle(problem, 0.0).tolerance_used(wrong, PLAIN) > 1
    dense = next(iter(problem.dense.values()))()
    assert Oracle(problem, 0.5).tolerance_used(dense, PLAIN) > 1


def test_bytes_fall_as_the_ideal_says(problem: Any) -> None:
    whole = problem.bytes_needed(0.0)
    weights = {n: t for n, t in tensors(problem.at[0.0]).items() if n not in ("x", "cold")}
    assert whole == sum(t.numel() * t.element_size() for t in weights.values())
    for level in LEVELS:
        assert whole / problem.bytes_needed(level) == pytest.approx(problem.ideal[level], rel=0.03)


def test_weights_lie_as_kernels_want_them(problem: Any) -> None:
    inputs = problem.at[0.5]
    for name in ("weight", "down"):
        weight = getattr(inputs, name, None)
        if isinstance(weight, torch.Tensor):
            assert weight.stride(0) == 1
    assert problem.x.shape == (1, 128)
