"""Ops of others: what is at a default works, what contradicts itself is told before a kernel is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.checking import consistency, records
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.reference import ops
from pytest_sparsity.testing import (
    Axis,
    Case,
    Contract,
    Draw,
    Kernel,
    Output,
    Relations,
    above,
    largest,
    sparse_kernel,
    sparse_op,
)

SPACE = {"rows": (1, 2, 5), "k": (8, 1, 33), "n": (4, 1, 17), "level": (0.5, 0.0, 1.0)}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is known to that test only."""
    records.records()
    monkeypatch.setattr(ops, "_OPS", known := dict(ops.OPS))
    for module in (ops, registry):
        monkeypatch.setattr(module, "OPS", known)
    monkeypatch.setattr(records, "_RECORDS", dict(records._RECORDS))
    monkeypatch.setattr(registry, "_KERNELS", dict(registry.registered()))
    consistency.check_record.cache_clear()
    yield
    consistency.check_record.cache_clear()


def draw_linear(draw: Draw) -> dict[str, Tensor]:
    case = draw.case
    x = torch.randn(case.rows, case.k, generator=draw.generator).to(draw.dtype)
    return {"tokens": x, "matrix": draw.weight(case.n, case.k)}


def linear(tokens: Tensor, matrix: Tensor) -> Tensor:
    return tokens @ matrix.T


def register(define: Callable[..., Any], **given: Any) -> None:
    sparse_op(**({"draw": draw_linear, "space": SPACE} | given))(define)


def kernel(op: str, call: Callable[..., Any], **given: Any) -> Kernel:
    sparse_kernel(op=op, backend="mine", **given)(call)
    return registry.kernel(f"{op}/mine")


def outcomes(examined: Kernel, examples: int = 20) -> dict[str, str]:
    return {name: run(examined, name, examples).status for name in CHECKS}


def test_a_definition_and_a_draw_are_enough() -> None:
    register(linear)
    found = outcomes(
        kernel(
            "linear", lambda tokens, matrix: (tokens.float() @ matrix.float().T).to(tokens.dtype)
        )
    )
    assert found == {
        **dict.fromkeys(CHECKS, "skipped"),
        **dict.fromkeys(("edges", "fuzz", "repeat", "inputs", "bounds"), "passed"),
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


RELATIONS = Relations(
    rows=True,
    integers={},
    ends={},
    channels=lambda inputs: {"tokens": Axis(1), "matrix": Axis(1)},
)


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
    assert run(registry.kernel("linear/rows"), "batch", 20).status == "failed"


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
    with pytest.raises(
        SparsityError, match="linear has no bits=; it has rows, k, n, level, dtype, seed"
    ):
        run(right, "fuzz", 5, case=Case(1, 8, 4).with_options(bits=4))


class Callable_:
    def __call__(self, tokens: Tensor, matrix: Tensor) -> Tensor:
        return tokens @ matrix.T


@pytest.mark.parametrize(
    "call",
    [
        Callable_(),
        torch.nn.functional.linear.__call__,
        __import__("functools").partial(lambda tokens, matrix, scale: tokens @ matrix.T, scale=1),
    ],
)
def test_any_callable_registers_where_it_was_registered(call: Any) -> None:
    register(linear)
    found = kernel("linear", call)
    assert Path(found.file) == Path(__file__)
    assert found.module == __name__
    assert found.line > 0


def test_what_cannot_be_called_does_not_register() -> None:
    register(linear)
    with pytest.raises(SparsityError, match="3 cannot be called"):
        sparse_kernel(op="linear", backend="mine")(3)  # type: ignore[type-var]


def test_a_custom_op_of_torch_registers() -> None:
    register(linear)

    @torch.library.custom_op("pytest_sparsity_tests::linear", mutates_args=())
    def custom(tokens: Tensor, matrix: Tensor) -> Tensor:
        return tokens @ matrix.T

    assert run(kernel("linear", custom), "fuzz", 5).status == "passed"


def strict_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """Right for K of whole blocks of 16 without a bias; refuses all else."""
    if bias is not None:
        raise NotImplementedError("no bias")
    if x.shape[1] % 16:
        raise AssertionError("K % 16")
    kept = torch.where(x.abs() <= torch.tensor(threshold).to(x), 0.0, x.float())
    return (kept @ weight.float().T).to(x.dtype)


CONTRACT = Contract(multiples={"k": 16}, only={"bias": (False,), "pattern": ("random", "all")})


def test_a_kernel_is_held_to_what_it_says_it_takes() -> None:
    sparse_kernel(op="sparse_linear", backend="strict", skips=False, contract=CONTRACT)(
        strict_linear
    )
    strict = registry.kernel("sparse_linear/strict")
    for check in ("edges", "fuzz", "layouts", "batch", "contract"):
        outcome = run(strict, check, 30)
        assert outcome.status == "passed", outcome.message
    assert run(registry.kernel("sparse_linear/torch"), "contract", 5).status == "skipped"


def test_rubbish_beyond_a_contract_fails() -> None:
    def careless(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        whole = x.shape[1] // 16 * 16
        kept = torch.where(x.abs() <= torch.tensor(threshold).to(x), 0.0, x.float())[:, :whole]
        return (kept @ weight.float().T[:whole]).to(x.dtype)

    sparse_kernel(op="sparse_linear", backend="careless", skips=False, contract=CONTRACT)(careless)
    kernel = registry.kernel("sparse_linear/careless")
    assert run(kernel, "fuzz", 30).status == "passed"
    outcome = run(kernel, "contract", 30)
    assert outcome.status == "failed"
    assert outcome.message.startswith("is off, and does not refuse, at")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"multiples": {"k": 0}}, "multiples of k must be of at least 1, not 0"),
        ({"only": {"layout": "best"}}, "only layout must be a sequence of values, not 'best'"),
        ({"only": {"layout": ()}}, "only layout must be a sequence of values"),
    ],
)
def test_contracts_that_say_nothing(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contract(**given)


def randn(draw: Draw, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw.generator).to(draw.dtype)


def of(op: str, check: str, call: Callable[..., Any], **given: Any) -> str:
    """What comes of a check of a kernel, which is registered for it."""
    name = f"k{len(registry._KERNELS)}"
    sparse_kernel(op=op, backend=name, **given)(call)
    outcome = run(registry.kernel(f"{op}/{name}"), check, 20)
    return f"{outcome.status} {outcome.message}"


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


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        (Contract(only={"moed": ("a",)}), "its contract tells of 'moed', which linear has not"),
        (Contract(multiples={"m": 4}), "its contract tells of 'm', which linear has not"),
        (Contract(only={"k": (7,)}), "its contract has k only in (7,), and cases of linear have"),
    ],
)
def test_contracts_of_what_an_op_has_not(contract: Contract, words: str) -> None:
    register(linear)
    with pytest.raises(SparsityError) as caught:
        of("linear", "fuzz", lambda tokens, matrix: tokens @ matrix.T, contract=contract)
    assert words in str(caught.value)


def test_one_name_is_one_kernel_and_one_op() -> None:
    register(linear)
    again = sparse_kernel(op="linear", backend="loop")
    again(lambda tokens, matrix: tokens @ matrix.T)
    with pytest.raises(SparsityError, match="linear/loop is registered twice"):
        again(lambda tokens, matrix: matrix @ tokens.T)
    with pytest.raises(SparsityError, match="there is an op of this name, in the same module"):
        register(linear)


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


def test_a_kernel_that_takes_nothing_of_its_op() -> None:
    register(linear, space=SPACE | {"dtype": ("float64",)})
    with pytest.raises(SparsityError, match=r"dtypes='float32'\): use one of float64"):
        of("linear", "edges", lambda tokens, matrix: tokens @ matrix.T, dtypes=("float32",))
    register(linear, name="tall", space={"rows": (16, 32), "k": (4,), "n": (2,)})
    with pytest.raises(SparsityError, match="takes no rows that cases of tall have: 16, 32"):
        of("tall", "edges", lambda tokens, matrix: tokens @ matrix.T, max_rows=8)


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
