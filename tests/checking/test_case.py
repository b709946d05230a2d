"""A case prints on a line that is read back as the same case, or is refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from pytest_sparsity import SparsityError
from pytest_sparsity.checking.cases import SIZES, sizes
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import space
from pytest_sparsity.kernels.registry import DTYPES, kernel
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.testing import Case, strategies

Draw = Callable[..., list[Case]]


@pytest.mark.parametrize("op", OPS)
def test_text_and_back(op: str, drawn: Draw) -> None:
    for case in drawn(op, 100):
        assert Case.parse(str(case)) == case
        assert "\n" not in str(case)


def test_text() -> None:
    case = Case(1, 65, 33, "bfloat16", pattern="last", bias=True, seed=7)
    assert str(case) == ("rows=1 k=65 n=33 dtype=bfloat16 level=0.5 pattern=last bias=yes seed=7")
    case = Case(2, 8, 3).with_options(sizes=(1, 1, 1), gate=False, bits=4, activation="relu")
    assert str(case) == (
        "rows=2 k=8 n=3 dtype=float32 level=0.5 seed=0 activation=relu bits=4 gate=no sizes=1:1:1"
    )
    assert case.option("bits", 8) == 4
    assert case.option("group", 32) == 32
    assert replace(case, options=case.options[::-1]) == case


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows=1 k=1 n=1 last", "case: 'last' is not of the form name=value"),
        ("rows=1 k=1 n=1 =last", "case: '=last' is not of the form name=value"),
        ("rows=1 rows=2 k=1 n=1", "case: rows= is given twice"),
        ("bits=4 bits=8", "case: bits= is given twice"),
        ("rows=x k=1 n=1", "case: rows=x: give an integer"),
        ("rows=1 k=1 n=1 level=half", "case: level=half: give a number"),
        ("rows=1 k=1 n=1 bias=1", "case: bias=1: give yes or no"),
        ("rows=-1 k=1 n=1", "case: rows=-1: give at least 0"),
        ("rows=1 k=1 n=1 level=1.5", "case: level=1.5: give 0 to 1"),
        ("rows=1 k=1 n=1 level=nan", "case: level=nan: give 0 to 1"),
        ("rows=1 k=1 n=1 seed=-1", "case: seed=-1: give at least 0"),
        ("rows=1 k=1 n=1 values=odd", "case: values=odd: use one of normal"),
        ("rows=1 k=1 n=1 layout=odd", "case: layout=odd: use one of best"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(SparsityError, match=f"^{re.escape(message)}"):
        Case.parse(text)


@pytest.mark.parametrize(
    ("op", "text", "message"),
    [
        ("sparse_linear", "", "case: rows=0: give at least 1"),
        ("sparse_linear", "rows=1 k=1", "case: n=0: give at least 1"),
        ("sparse_linear", "rows=1 k=1 n=1 colour=red", "case: sparse_linear has no colour=; it h"),
        ("compact", "rows=1 k=1 n=1 bits=4", "case: compact has no bits=; it has rows"),
        ("semi_structured_linear", "rows=1 k=4 n=1 nm=2/4", "case: nm=2/4: give integers as in"),
        ("sparse_quantized_linear", "rows=1 k=4 n=1 bits=x", "case: bits=x: give an integer"),
        ("hot_cold_mlp", "rows=1 k=4 n=1 gate=1", "case: gate=1: give yes or no"),
        ("sparse_linear", "rows=1 k=1 n=1 dtype=int8", "case: dtype=int8: sparse_linear has float"),
        ("sparse_linear", "rows=1 k=1 n=1 pattern=odd", "case: pattern=odd: sparse_linear has ran"),
        ("hot_cold_mlp", "rows=1 k=1 n=1 pattern=ties", "case: pattern=ties: hot_cold_mlp has r"),
    ],
)
def test_what_an_op_cannot_have(op: str, text: str, message: str) -> None:
    with pytest.raises(SparsityError, match=f"^{re.escape(message)}"):
        record(op).checked(Case.parse(text))


def test_draws_are_spread(drawn: Draw) -> None:
    found = drawn("sparse_linear", 300)
    assert len(set(found)) > 290
    assert {case.pattern for case in found} == set(space("sparse_linear").choices["pattern"])
    assert {case.rows for case in found} == set(range(1, 9))
    for dtype in DTYPES:
        assert sum(case.dtype == dtype for case in found) > 50
    assert sum(case.k <= 2 for case in found) < 60
    # Interpreters run at seconds per large case.
    assert sum(max(case.k, case.n) > 640 for case in found) < 15
    assert sum(case.k * case.n for case in found) / 300 < 40_000


def test_kernels_limit_what_is_drawn() -> None:
    limited = replace(kernel("sparse_linear/torch"), dtypes=("float16",), max_rows=2)
    choices = space("sparse_linear", limited).choices
    assert list(choices["dtype"]) == ["float16"]
    assert list(choices["rows"]) == [1, 2]


def test_parameters_fit_each_other() -> None:
    packed, three = record("semi_structured_linear"), record("sparse_qkv")
    assert packed.fitted(Case(1, 9, 1).with_options(nm=(4, 8))).k == 16
    assert three.fitted(Case(1, 9, 1).with_options(sizes=(5, 2, 3))).n == 10
    drawn = {"rows": 1, "k": 4, "n": 2, "hidden": 10, "hot": 0.5}
    assert record("hot_cold_mlp").case_of(drawn).option("hot", None) == 5
    eight = {"rows": 1, "k": 4, "n": 2, "bits": 8, "group": 32}
    assert record("sparse_quantized_linear").case_of(eight).options == (("bits", 8),)


def test_sizes() -> None:
    assert sizes() == SIZES
    assert max(sizes(100)) == 100
    often = sizes(100, often=2048)
    assert often.count(2048) * 2 == len(often)


@settings(max_examples=20, deadline=None, database=None)
@given(strategies.cases("sparse_linear", rows=2, dtype="float16"))
def test_strategy_of_cases(case: Case) -> None:
    assert (case.rows, case.dtype) == (2, "float16")


@settings(max_examples=20, deadline=None, database=None)
@given(strategies.inputs("sparse_qkv", k=8, outputs_q=5))
def test_strategy_of_operands(inputs: object) -> None:
    assert isinstance(inputs, OPS["sparse_qkv"].inputs)
    assert inputs.sizes[0] == 5


def test_unknown_parameter() -> None:
    with pytest.raises(TypeError, match="cases of compact have no 'bits', only rows, k"):
        strategies.cases("compact", bits=8)
