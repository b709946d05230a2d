"""Decisions inside definitions: the edge may fall to either side, and nothing else may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from foreign_ops import kernel, of, randn
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import (
    Draw,
    Output,
    above,
    largest,
    rounded,
    sparse_kernel,
    sparse_op,
)

pytestmark = pytest.mark.usefixtures("forgotten")


def test_a_value_on_the_edge_may_fall_to_either_side() -> None:
    def relu_gated(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T
        return torch.where(above(h, threshold), h + 1.0, 0.0)

    x = torch.tensor([[1.0, 2.0**-24]])
    matrix = torch.tensor([[1.0, 1.0], [0.5, 0.0]])

    def draw(draw: Draw) -> dict[str, Any]:
        return {"x": x.clone(), "matrix": matrix.clone(), "threshold": 1.0}

    sparse_op(draw=draw, space={"rows": (1,), "k": (2,), "n": (2,), "dtype": ("float32",)})(
        relu_gated
    )

    def rounded(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T  # 1 + 2^-24 is 1 in float32, which is not above 1
        return torch.where(h > threshold, h + 1.0, 0.0)

    assert run(kernel("relu_gated", rounded, dtypes=("float32",)), "fuzz", 1).status == "passed"

    def far_off(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T
        return torch.where(h > 0.4, h + 1.0, 0.0)

    sparse_kernel(op="relu_gated", backend="far", dtypes=("float32",))(far_off)
    assert run(registry.kernel("relu_gated/far"), "fuzz", 1).status == "failed"


def test_scores_that_tie_may_be_chosen_either_way() -> None:
    """A router: the same scores computed in another order choose others where they tie."""
    one = torch.tensor([[1.0, 2.0**-24, 2.0**-24, -1.0]])
    experts = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0 - 2**-24], [0, 0, 0, 0.5]])

    def router(x: Tensor, experts: Tensor) -> Tensor:
        chosen = largest(x @ experts.T, 1)
        return chosen.nonzero()[:, 1].view(len(x), 1)

    sparse_op(
        draw=lambda d: {"x": one.clone(), "experts": experts.clone()},
        space={"rows": (1,), "dtype": ("float32",)},
        outputs=(Output("expert", "set", "int64"),),
    )(router)
    for chosen in (0, 1):
        assert of("router", "fuzz", lambda x, experts, c=chosen: torch.full((1, 1), c)).startswith(
            "passed"
        )
    assert of("router", "fuzz", lambda x, experts: torch.full((1, 1), 2)).startswith("failed")


ONE = {"rows": (1,), "dtype": ("float32",)}
#: 1, 1 + 2^-24, 1 - 2^-24: the same in float32, on both sides of 1 in float64; 0, 2.
EDGES = torch.tensor(
    [[1.0, 0.0, 0.0], [1.0, 2.0**-24, 0.0], [1.0, 0.0, -(2.0**-24)], [0, 0, 0], [2, 0, 0]]
)


def on_edges(define: Callable[..., Any], *outputs: Output, **space: Any) -> None:
    """Make an op of x, all 1, and a matrix whose products are on the edge of 1."""
    sparse_op(
        draw=lambda draw: {"x": torch.ones(draw.case.rows, 3), "matrix": EDGES.clone()},
        space=ONE | space,
        outputs=outputs or (Output(),),
    )(define)


def passes(op: str, *results: Any) -> list[bool]:
    """Whether a kernel that gives each of these is right."""
    return [
        of(op, "fuzz", lambda x, matrix, r=result: r, examples=1).startswith("passed")
        for result in results
    ]


def test_several_decisions_fall_each_to_its_side() -> None:
    def active(x: Tensor, matrix: Tensor) -> Tensor:
        return above(x @ matrix.T, 1.0).to(torch.int32)

    on_edges(active, Output("active", "exact", "int32"), rows=(3,))
    right = torch.tensor([[0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 1, 0, 1]], dtype=torch.int32)
    wrong = right.clone()
    wrong[1, 3] = 1
    assert passes("active", right, wrong) == [True, False]


def test_a_list_may_be_longer_or_shorter() -> None:
    def listed(x: Tensor, matrix: Tensor) -> Tensor:
        return above((x @ matrix.T)[0], 1.0).nonzero().flatten()

    on_edges(listed, Output("listed", "exact", "int64"))
    lists = ([4], [1, 4], [0, 1, 2, 4], [0, 2, 4], [0, 3, 4], [0, 1, 2], [4, 0])
    assert passes("listed", *map(torch.tensor, lists)) == [True] * 4 + [False] * 3


def test_outputs_are_of_the_same_decisions() -> None:
    def both(x: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = above((x @ matrix.T)[0], 1.0)
        values = torch.where(chosen, 8.0, 0.0)
        return chosen.nonzero().flatten(), chosen.sum().view(1), values

    whole = (Output("listed", "set", "int64"), Output("count", "exact", "int64"))
    on_edges(both, *whole, Output("values"))

    def result(listed: list[int], count: int, values: list[float]) -> tuple[Tensor, ...]:
        return torch.tensor(listed), torch.tensor([count]), torch.tensor(values)

    assert passes(
        "both",
        result([4, 0], 2, [8.0, 0, 0, 0, 8]),
        result([2, 0, 4, 1], 4, [8.0, 8, 8, 0, 8]),
        result([4, 0], 3, [8.0, 0, 0, 0, 8]),
        result([4, 0], 2, [8.0, 8, 0, 0, 8]),
        result([4, 0], 2, [4.0, 0, 0, 0, 8]),
    ) == [True, True, False, False, False]


def test_two_decisions_that_both_must_hold() -> None:
    def both_hold(x: Tensor, matrix: Tensor) -> Tensor:
        h = (x @ matrix.T)[0]
        return torch.where(above(h[:1], 1.0) & above(h[2:3], 1.0), 3.0, 0.0)

    on_edges(both_hold)
    results = [torch.tensor([value]) for value in (0.0, 3.0, 1.5, 6.0)]
    assert passes("both_hold", *results) == [True, True, False, False]


@pytest.mark.parametrize(("count", "wrong"), [(2, 39), (20, 39)])
def test_any_of_many_that_tie(count: int, wrong: int) -> None:
    def best(scores: Tensor) -> tuple[Tensor, Tensor]:
        chosen = largest(scores * 1.0, count)
        kept = chosen.nonzero()[:, 1].view(len(scores), count)
        return kept, torch.where(chosen, scores, 0.0).sum(-1)

    scores = torch.ones(3, 40)
    scores[:, wrong] = 0.5
    sparse_op(
        draw=lambda draw: {"scores": scores.clone()},
        space=ONE | {"rows": (3,)},
        outputs=(Output("chosen", "set", "int64"), Output("total")),
    )(best)
    some = torch.stack([torch.arange(first, first + count) for first in (0, 7, 17)])
    total = torch.full((3,), float(count))

    def given(chosen: Tensor) -> str:
        return of("best", "fuzz", lambda scores: (chosen, total), examples=1)

    assert given(some).startswith("passed")
    bad = some.clone()
    bad[1, 0] = wrong
    assert given(bad).startswith("failed")
    bad[1, 0] = bad[1, 1]
    assert given(bad).startswith("failed")


def test_whole_numbers_on_the_edge_of_rounding() -> None:
    def quantized(x: Tensor, scale: Tensor) -> Tensor:
        return rounded(x / scale).clamp(-8, 7)

    halves = torch.tensor([[0.5, 1.5, -2.5, 0.7, 3.0, 100.0, 2.5 + 2**-22, 2.6]])

    def draw(draw: Draw) -> dict[str, Tensor]:
        return {"x": halves * 0.3, "scale": torch.tensor([0.3])}

    sparse_op(draw=draw, space=ONE, outputs=(Output("codes", "exact", "int8"),))(quantized)

    def found(*codes: int) -> bool:
        result = torch.tensor([codes], dtype=torch.int8)
        return of("quantized", "fuzz", lambda x, scale: result, examples=1).startswith("passed")

    assert found(0, 2, -2, 1, 3, 7, 3, 3)
    assert found(1, 1, -3, 1, 3, 7, 2, 3)
    assert not found(0, 2, -2, 1, 4, 7, 3, 3)
    assert not found(0, 2, -2, 1, 3, 7, 3, 2)
    assert not found(2, 2, -2, 1, 3, 7, 3, 3)
    assert not found(0, 2, -2, 1, 3, 6, 3, 3)


def test_rounded_values_that_are_numbers() -> None:
    def snapped(x: Tensor, scale: Tensor) -> Tensor:
        return rounded(x / scale) * scale

    def draw(draw: Draw) -> dict[str, Tensor]:
        return {"x": randn(draw, draw.case.rows, 64), "scale": torch.tensor([0.125])}

    sparse_op(draw=draw, space={"rows": (1, 3), "dtype": ("float32",)})(snapped)

    def right(x: Tensor, scale: Tensor) -> Tensor:
        return (x * (1 / scale)).round() * scale

    assert of("snapped", "fuzz", right).startswith("passed")
    assert of("snapped", "fuzz", lambda x, scale: (x / scale).trunc() * scale).startswith("failed")
    assert of("snapped", "fuzz", lambda x, scale: right(x, scale) * 1.001).startswith("failed")


def test_complex_numbers_inside_a_definition() -> None:
    def rotated(x: Tensor, angles: Tensor) -> Tensor:
        turned = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.view(len(x), -1, 2))
        return torch.view_as_real(pairs * turned).flatten(1)

    def draw(draw: Draw) -> dict[str, Tensor]:
        angles = torch.arange(draw.case.rows)[:, None] * torch.rand(16, generator=draw.generator)
        return {"x": randn(draw, draw.case.rows, 32), "angles": angles}

    sparse_op(draw=draw, space={"rows": (1, 5), "dtype": ("float32", "bfloat16")})(rotated)

    def right(x: Tensor, angles: Tensor) -> Tensor:
        even, odd = x.float()[:, ::2], x.float()[:, 1::2]
        sin, cos = angles.sin(), angles.cos()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(1).to(x)

    def wrong(x: Tensor, angles: Tensor) -> Tensor:
        return right(x, -angles)

    for check in ("edges", "fuzz"):
        assert of("rotated", check, right).startswith("passed"), check
        assert of("rotated", check, wrong).startswith("failed"), check


def test_complex_results_are_refused() -> None:
    def turned(x: Tensor) -> Tensor:
        return torch.complex(x, -x)

    sparse_op(draw=lambda d: {"x": randn(d, 2, 4)}, space=ONE)(turned)
    with pytest.raises(SparsityError, match=r"the result is complex: give torch\.view_as_real of"):
        of("turned", "fuzz", turned)
    with pytest.raises(SparsityError, match=r"complex64.*give torch\.view_as_real"):
        sparse_op(
            draw=lambda d: {"x": randn(d, 2, 4)},
            space=ONE,
            outputs=(Output(dtype="complex64"),),
            name="complex_turned",
        )(turned)
