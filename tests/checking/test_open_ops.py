"""Ops of others: a definition and a draw are enough, and what is declared is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from foreign_ops import RELATIONS, SPACE, draw_linear, kernel, linear, of, outcomes, randn, register
from torch import Tensor

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import (
    Draw,
    Output,
    Relations,
    above,
    largest,
    sparse_kernel,
    sparse_op,
)

pytestmark = pytest.mark.usefixtures("forgotten")


def test_a_definition_and_a_draw_are_enough() -> None:
    register(linear)
    found = outcomes(
        kernel(
            "linear", lambda tokens, matrix: (tokens.float() @ matrix.float().T).to(tokens.dtype)
        )
    )
    assert found == {
        **dict.fromkeys(CHECKS, "skipped"),
        **dict.fromkeys(("edges", "fuzz", "repeat", "inputs", "bounds", "state", "far"), "passed"),
    }


@pytest.mark.parametrize(
    ("call", "check"),
    [
        (lambda tokens, matrix: (tokens @ matrix.T) * 1.001, "edges"),
        (lambda tokens, matrix: tokens @ matrix.T[:, :1].expand(-1, len(matrix)), "fuzz"),
        (lambda tokens, matrix: (tokens @ matrix.T).double(), "fuzz"),
        (lambda tokens, matrix: [tokens @ matrix.T], "fuzz"),
        (lambda tokens, matrix: tokens.zero_() @ matrix.T, "inputs"),
    ],
)
def test_wrong_kernels_fail(call: Callable[..., Any], check: str) -> None:
    register(linear)
    assert run(kernel("linear", call), check, 40).status == "failed"


def test_declared_relations_are_checked() -> None:
    space = SPACE | {"values": ("normal", "integer"), "pattern": ("random", "none")}

    def draw(draw: Draw) -> dict[str, Tensor]:
        found = draw_linear(draw)
        if draw.integer:
            found["tokens"] = draw.integers(3, *found["tokens"].shape).to(draw.dtype)
        if draw.case.pattern == "none":
            found["tokens"].zero_()
        return found

    register(linear, draw=draw, space=space, relations=RELATIONS)

    def right(tokens: Tensor, matrix: Tensor) -> Tensor:
        return (tokens.float() @ matrix.float().T).to(tokens.dtype)

    found = outcomes(kernel("linear", right))
    for check in ("exact", "permutation", "ends", "batch"):
        assert found[check] == "passed", check

    def forgets_the_last_row(tokens: Tensor, matrix: Tensor) -> Tensor:
        found = right(tokens, matrix)
        if len(found) > 2:
            found[-1] = 0
        return found

    sparse_kernel(op="linear", backend="rows")(forgets_the_last_row)
    assert run(registry.kernel("linear/rows"), "batch", 100).status == "failed"


def test_several_outputs_of_which_one_is_a_set() -> None:
    def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        chosen = largest(scores, count)
        kept = torch.where(chosen, scores, 0.0)
        return kept.sum(-1), chosen.nonzero()[:, 1].view(len(scores), count)

    def draw(draw: Draw) -> dict[str, Any]:
        case = draw.case
        scores = torch.randn(case.rows, case.k, generator=draw.generator)
        return {"scores": scores, "count": min(case.option("count", 2), case.k)}

    sparse_op(
        draw=draw,
        space={"rows": (1, 3), "k": (8, 2, 40), "dtype": ("float32",), "count": (2, 1)},
        outputs=(Output("total"), Output("chosen", "set", "int64")),
    )(best)

    def right(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        top = scores.topk(count, sorted=False)
        return top.values.sum(-1), top.indices.flip(-1)

    assert run(kernel("best", right, dtypes=("float32",)), "fuzz", 40).status == "passed"

    def wrong(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        total, chosen = right(scores, count)
        return total, (chosen + 1) % scores.shape[1]

    sparse_kernel(op="best", backend="wrong", dtypes=("float32",))(wrong)
    outcome = run(registry.kernel("best/wrong"), "fuzz", 40)
    assert outcome.status == "failed"
    assert "in chosen," in outcome.message
    sparse_kernel(op="best", backend="one", dtypes=("float32",))(lambda **o: right(**o)[0])
    assert "not 2 tensors in a tuple" in run(registry.kernel("best/one"), "fuzz", 5).message


def test_masked_scores_do_not_hide_their_row() -> None:
    def causal(x: Tensor) -> Tensor:
        scores = x @ x.T
        scores = scores + torch.triu(torch.full_like(scores, -torch.inf), 1)
        return torch.softmax(scores, -1) @ x

    single = {"rows": (4, 2), "k": (8, 3), "dtype": ("float32",)}
    sparse_op(draw=lambda d: {"x": randn(d, d.case.rows, d.case.k)}, space=single)(causal)
    assert of("causal", "fuzz", causal).startswith("passed")

    def wrong(x: Tensor) -> Tensor:
        found = causal(x)
        found[0] = 1e4
        return found

    assert of("causal", "fuzz", wrong).startswith("failed")


def test_every_output_is_held_to_its_own_dtype() -> None:
    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2.0, x.sum(-1)

    def right(x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x.float().sum(-1)

    sparse_op(
        draw=lambda d: {"x": randn(d, d.case.rows, d.case.k)},
        space={"rows": (2, 1), "k": (8, 64), "dtype": ("bfloat16",)},
        outputs=(Output("twice"), Output("total", dtype="float32")),
    )(both)
    assert of("both", "fuzz", right).startswith("passed")
    assert of("both", "fuzz", lambda x: (x * 2, x.float().sum(-1) * 1.003)).startswith("failed")


def test_definitions_may_work_in_place() -> None:
    def quadrupled(x: Tensor, counts: Tensor) -> Tensor:
        counts += 1
        return x.mul_(2.0).mul_(2.0) * counts

    def draw(draw: Draw) -> dict[str, Tensor]:
        return {"x": randn(draw, draw.case.rows, draw.case.k), "counts": torch.ones(draw.case.k)}

    sparse_op(draw=draw, space={"rows": (2, 1), "k": (8, 64), "dtype": ("float32", "float64")})(
        quadrupled
    )

    def right(x: Tensor, counts: Tensor) -> Tensor:
        return (x * 4 * (counts + 1)).to(x.dtype)

    for check in ("edges", "fuzz", "repeat", "inputs"):
        assert of("quadrupled", check, right).startswith("passed"), check
    wrong = of("quadrupled", "fuzz", lambda x, counts: right(x, counts) * 1.001)
    assert wrong.startswith("failed")


def test_all_values_of_the_space_are_tried() -> None:
    space = {"rows": (1, 16, 64), "k": (16, 32), "n": (4,), "dtype": ("float64", "float32")}
    register(linear, space=space, relations=Relations(rows=True))

    def few_rows(tokens: Tensor, matrix: Tensor) -> Tensor:
        found = tokens @ matrix.T
        found[8:] = 0
        return found

    def single_only(tokens: Tensor, matrix: Tensor) -> Tensor:
        found = tokens @ matrix.T
        return found if tokens.dtype == torch.float32 else found + 1

    assert of("linear", "edges", few_rows).startswith("failed")
    assert of("linear", "edges", single_only).startswith("failed")
    seen = set()

    def noting(tokens: Tensor, matrix: Tensor) -> Tensor:
        seen.add((tokens.shape[1], len(matrix)))
        return tokens @ matrix.T

    for check in ("repeat", "inputs", "batch", "bounds"):
        assert of("linear", check, noting).startswith("passed"), check
    assert seen <= {(16, 4), (32, 4)}, "nothing beyond the author's space"


def test_whole_numbers_are_compared_as_such() -> None:
    def mixed(i: Tensor) -> Tensor:
        return i ^ (i >> 3)

    sparse_op(
        draw=lambda d: {"i": torch.arange(d.case.k) + 2**62 + 1},
        space={"k": (8, 3), "dtype": ("float32",)},
        outputs=(Output("mixed", "exact", "int64"),),
    )(mixed)
    assert of("mixed", "fuzz", lambda i: i ^ (i >> 3)).startswith("passed")
    assert of("mixed", "fuzz", lambda i: (i ^ (i >> 3)) + 1).startswith("failed")


def test_rows_of_several_operands() -> None:
    def taken(x: Tensor, columns: Tensor) -> Tensor:
        return x.gather(1, columns)

    def draw(draw: Draw) -> dict[str, Tensor]:
        rows, k = draw.case.rows, draw.case.k
        columns = torch.randint(k, (rows, 2), generator=draw.generator)
        return {"x": randn(draw, rows, k), "columns": columns}

    sparse_op(
        draw=draw,
        space={"rows": (1, 2, 3), "k": (8, 3)},
        relations=Relations(rows=("x", "columns")),
    )(taken)
    assert of("taken", "batch", lambda x, columns: x.gather(1, columns)).startswith("passed")


def test_a_set_may_be_padded_in_a_narrower_dtype_than_the_definition_has() -> None:
    def active(x: Tensor) -> Tensor:
        return torch.where(above(x, 0.0), torch.arange(x.shape[1]), -1)

    def right(x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.arange(x.shape[1]), -1).flip(-1).to(torch.int32)

    sparse_op(
        draw=lambda draw: {"x": randn(draw, draw.case.rows, draw.case.k)},
        space={"rows": (1, 3), "k": (16, 1, 65)},
        outputs=(Output("active", "set", "int32"),),
    )(active)
    assert of("active", "fuzz", right).startswith("passed")
    assert of("active", "fuzz", lambda x: right(x).clamp(min=0)).startswith("failed")
