"""Mistakes in ops of others are told in one sentence, before a kernel is blamed."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_ops import RELATIONS, SPACE, draw_linear, kernel, linear, of, register
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.checking.runner import run
from pytest_sparsity.testing import (
    Axis,
    Case,
    Draw,
    Output,
    Relations,
    sparse_op,
)

pytestmark = pytest.mark.usefixtures("forgotten")


def mistaken(**given: Any) -> dict[str, Any]:
    return {"draw": draw_linear, "space": SPACE} | given


@pytest.mark.parametrize(
    ("define", "given", "words"),
    [
        (lambda *operands: operands[0], {"name": "any"}, "has the parameter '*operands'"),
        (lambda: None, {"name": "any"}, "takes no operands"),
        (linear, {"name": "not a name"}, "give a name that is an identifier"),
        (linear, {"name": "sparse_linear"}, "there is an op of this name"),
        (linear, {"leading": "x"}, "@sparse_op(leading='x'): linear has no such operand"),
        (linear, {"space": {"k": 8}}, "has k=8; give a sequence of values"),
        (linear, {"space": SPACE | {"dtype": ("float31",)}}, "dtype='float31'; torch has not"),
        (linear, {"edges": [{"bits": 4}]}, "@sparse_op(edges=...): linear has no 'bits'"),
    ],
)
def test_what_cannot_be_registered(
    define: Callable[..., Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(SparsityError) as caught:
        sparse_op(**mistaken(**given))(define)
    assert words in str(caught.value)


def unseeded(draw: Draw) -> dict[str, Tensor]:
    found = draw_linear(draw)
    counter.append(None)
    return found | {"tokens": found["tokens"] + len(counter)}


counter: list[None] = []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"relations": Relations(ends={}), "space": SPACE | {"pattern": ("none",)}},
            "is not exactly the bias, or zero, without active channels",
        ),
        (
            {"relations": dataclasses.replace(RELATIONS, channels=lambda i: {"tokens": Axis(1)})},
            "gives another result for the same channels in another order",
        ),
        (
            {"bound": lambda tokens, matrix, precision: torch.zeros(len(tokens), len(matrix))},
            "its own float32 run",
        ),
        (
            {"bound": lambda tokens, matrix, precision: (tokens @ matrix.T).double() + torch.inf},
            "the bound of linear is not finite where output is",
        ),
        (
            {"bound": lambda tokens, matrix, precision: torch.ones(1, dtype=torch.float64)},
            "the bound of linear has shape (1,) for output",
        ),
        (
            {"needed": lambda tokens, matrix: {"matrix": torch.ones(3, 3, dtype=torch.bool)}},
            "needed of linear gives torch.bool (3, 3) for matrix",
        ),
        (
            {"needed": lambda tokens, matrix: {"weight": torch.ones(3, dtype=torch.bool)}},
            "needed of linear tells of 'weight', which is no tensor of it; it has tokens, matrix",
        ),
        (
            {"needed": lambda tokens, matrix: {"matrix": torch.zeros_like(matrix).bool()}},
            "depends on weights that are not needed",
        ),
        ({"space": SPACE | {"bits": (4, 8)}}, "has 'bits', which draw never reads"),
        ({"space": SPACE | {"bias": (False, True)}}, "has 'bias', which draw never reads"),
        ({"draw": unseeded}, "draw of linear gives another tokens for the same case"),
        ({"outputs": (Output(), Output("more"))}, "gives 1 tensors, and outputs names 2"),
    ],
)
def test_a_record_that_contradicts_itself(given: dict[str, Any], words: str) -> None:
    register(linear, **given)
    right = kernel("linear", lambda tokens, matrix: tokens @ matrix.T)
    with pytest.raises(SparsityError) as caught:
        run(right, "fuzz", 5)
    assert words in str(caught.value)


def test_a_case_of_an_op_is_told_what_it_lacks() -> None:
    register(linear)
    right = kernel("linear", lambda tokens, matrix: tokens @ matrix.T)
    with pytest.raises(SparsityError, match="linear has no bits=; it has rows, k, n, dtype, seed"):
        run(right, "fuzz", 5, case=Case(1, 8, 4).with_options(bits=4))


@pytest.mark.parametrize(
    "values",
    [("1e3", "01"), (1, 0.5), ("auto", 4), (2, None), ((0.5, 1.0), (1.5, 2.0)), ("a b", "c"),
     ("yes", "no"), ((1,), (2,))],
)  # fmt: skip
def test_values_that_a_case_cannot_print(values: tuple[Any, ...]) -> None:
    with pytest.raises(SparsityError, match=r"cannot print and read back|of several types"):
        register(linear, space=SPACE | {"mode": values})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"draw": lambda draw: {}["x"]}, "cannot be used: KeyError: 'x'"),
        ({"needed": lambda tokens, matrix: matrix}, "cannot be used: AttributeError"),
        (
            {"relations": Relations(integers={}, channels=lambda i: {"q": Axis(1)})},
            "cannot be used: KeyError",
        ),
    ],
)
def test_mistakes_in_a_record_are_one_sentence(given: dict[str, Any], words: str) -> None:
    space = SPACE | {"values": ("normal", "integer")}
    register(linear, space=space, **given)
    with pytest.raises(SparsityError) as caught:
        of("linear", "fuzz", lambda tokens, matrix: tokens @ matrix.T)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (Output(), "give a sequence of Output"),
        (("y",), "'y' is no Output"),
        ((Output(kind="number"),), "use numbers, exact or set"),  # type: ignore[arg-type]
        ((Output(dtype="fp16"),), "use operand, or the name of a dtype"),
        ((Output("a", "set"),), "give the dtype of its numbers"),
    ],
)
def test_outputs_that_say_nothing(outputs: Any, words: str) -> None:
    with pytest.raises(SparsityError, match=words):
        register(linear, outputs=outputs)


def test_a_kernel_that_takes_nothing_of_its_op() -> None:
    register(linear, space=SPACE | {"dtype": ("float64",)})
    with pytest.raises(SparsityError, match=r"dtypes='float32'\): use one of float64"):
        of("linear", "edges", lambda tokens, matrix: tokens @ matrix.T, dtypes=("float32",))
    register(linear, name="tall", space={"rows": (16, 32), "k": (4,), "n": (2,)})
    with pytest.raises(SparsityError, match="takes no rows that cases of tall have: 16, 32"):
        of("tall", "edges", lambda tokens, matrix: tokens @ matrix.T, max_rows=8)


def test_a_parameter_that_only_matters_with_another() -> None:
    def draw(draw: Draw) -> dict[str, Tensor]:
        found = draw_linear(draw)
        if draw.case.option("bits", 8) == 4:
            found["matrix"][:, 0] = draw.case.option("group", 32)
        return found

    register(linear, draw=draw, space=SPACE | {"bits": (8, 4), "group": (32, 16)})
    assert of("linear", "fuzz", lambda tokens, matrix: tokens @ matrix.T).startswith("passed")


DEFINITION = """
from foreign_ops import SPACE, draw_linear
from pytest_sparsity.testing import Relations, sparse_op

@sparse_op(draw=draw_linear, space=SPACE | {"pattern": ("none",)}, relations=Relations(ENDS))
def twice_imported(tokens, matrix):
    return tokens @ matrix.T
"""


def test_an_op_that_is_imported_again_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(DEFINITION.replace("ENDS", ""))
    runpy.run_path(str(file))
    right = kernel("twice_imported", linear)
    assert run(right, "fuzz", 5).status == "passed"
    file.write_text(DEFINITION.replace("ENDS", "ends={}"))
    runpy.run_path(str(file))
    with pytest.raises(SparsityError, match="not exactly the bias, or zero, without active"):
        run(right, "fuzz", 5)
