"""What a kernel declares in its contract is what it is held to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_ops import linear, of, randn, register
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.as_declared import as_declared, blocks_of
from pytest_sparsity.reference.activation import activate
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs
from pytest_sparsity.testing import (
    Contract,
    Draw,
    KernelFailure,
    above,
    check_kernel,
    sparse_kernel,
    sparse_op,
)

pytestmark = pytest.mark.usefixtures("forgotten")


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
    for check in ("edges", "fuzz", "splitting", "layouts", "batch", "contract"):
        outcome = run(strict, check, 30)
        assert outcome.status == "passed", outcome.message
    assert run(registry.kernel("sparse_linear/torch"), "contract", 5).status == "skipped"


def test_parts_of_sizes_beyond_a_contract_may_be_refused() -> None:
    def of_64(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        if x.shape[1] != 64:
            raise ValueError("K must be 64")
        return strict_linear(x, weight, threshold, bias)

    only = Contract(only={"k": (64,), "bias": (False,)})
    assert of("sparse_linear", "splitting", of_64, contract=only).startswith("passed")
    refused = of("sparse_linear", "splitting", of_64, contract=Contract(only={"bias": (False,)}))
    assert refused.startswith("failed raised ValueError: K must be 64")


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
        ({"only": ("layout",)}, "only must be a mapping from names"),
        ({"keeps": "<"}, "keeps must be '>' or '>=', not '<'"),
        ({"granularity": {"weight": 32}}, "must be the shape of a block, as \\(1, 32\\), not 32"),
        ({"granularity": {"weight": (0, 32)}}, "must be the shape of a block"),
        ({"adds": {"bias": "bf16"}}, "adds bias must be operand or the name of a dtype"),
        ({"outside": {"gate": None}}, "outside gate must be operand or the name of a dtype"),
    ],
)
def test_contracts_that_say_nothing(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contract(**given)


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


def dense(x: Tensor, weight: Tensor, keep: Tensor, bias: Tensor | None) -> Tensor:
    """A layer over kept channels, summed in float64 and rounded once."""
    found = torch.where(keep, x, 0.0).double() @ weight.double().T
    return (found if bias is None else found + bias.double()).to(x.dtype)


def gathered(x: Tensor, weight: Tensor, keep: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`dense` that reads no weight of a channel which no row keeps."""
    some = keep.any(0)
    return dense(x[:, some], weight[:, some], keep[:, some], bias)


def at_least(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return gathered(x, weight, ~(x.abs() < torch.tensor(threshold).to(x.dtype)), bias)


def more_than(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return gathered(x, weight, ~(x.abs() <= torch.tensor(threshold).to(x.dtype)), bias)


#: Sizes that are checked quickly.
SMALL = {"k": (65, 1, 33, 128), "n": (3, 17)}
VALUES = ("edges", "fuzz", "exact", "scaling", "permutation", "splitting", "ends", "batch")


def test_a_kernel_may_keep_what_is_equal_to_the_threshold() -> None:
    declared, small = Contract(keeps=">=", only=SMALL), Contract(only=SMALL)
    for check in (*VALUES, "unread", "layouts"):
        found = of("sparse_linear", check, at_least, contract=declared)
        assert found.startswith("passed"), (check, found)
        found = of("sparse_linear", check, more_than, contract=small)
        assert found.startswith("passed"), (check, found)
    assert of("sparse_linear", "edges", more_than, contract=declared).startswith("failed")
    assert of("sparse_linear", "edges", at_least, contract=small).startswith("failed")


def test_computed_values_may_be_kept_where_they_are_equal_too() -> None:
    def gated(x: Tensor, matrix: Tensor) -> Tensor:
        h = x @ matrix.T
        return torch.where(above(h, 2.0), h, 0.0)

    def draw(draw: Draw) -> dict[str, Tensor]:
        return {
            "x": draw.integers(2, draw.case.rows, 4).to(draw.dtype),
            "matrix": draw.integers(2, 64, 4).to(draw.dtype),
        }

    sparse_op(draw=draw, space={"rows": (1, 3), "dtype": ("float32",)})(gated)

    def strict(x: Tensor, matrix: Tensor) -> Tensor:
        h = x @ matrix.T
        return torch.where(h > 2, h, 0.0)

    def loose(x: Tensor, matrix: Tensor) -> Tensor:
        h = x @ matrix.T
        return torch.where(h >= 2, h, 0.0)

    for call, keeps in ((strict, ">"), (loose, ">=")):
        given = {"contract": Contract(keeps=keeps)}
        assert of("gated", "fuzz", call, **given).startswith("passed"), keeps
    assert of("gated", "fuzz", lambda x, matrix: loose(x, matrix) * 1.01).startswith("failed")


def in_blocks(
    size: int, x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """Skips blocks of channels of which no row keeps any, and multiplies the rest by zero."""
    keep = ~(x.abs() <= torch.tensor(threshold).to(x.dtype))
    places = torch.arange(x.shape[1])
    blocks = torch.zeros(len(places) // size + 1, dtype=torch.bool)
    blocks[places[keep.any(0)] // size] = True
    some = blocks[places // size]
    return dense(x[:, some], weight[:, some], keep[:, some], bias)


def test_a_kernel_may_skip_whole_blocks() -> None:
    declared = Contract(granularity={"weight": (1, 32)}, only=SMALL)
    call = partial(in_blocks, 32)
    for check in (*VALUES, "unread"):
        found = of("sparse_linear", check, call, contract=declared)
        assert found.startswith("passed"), (check, found)
    assert of("sparse_linear", "unread", call, 100, contract=declared).startswith("passed")
    assert of("sparse_linear", "unread", more_than, contract=declared).startswith("passed")
    wrong = "failed depends on weights that are not needed"
    assert of("sparse_linear", "unread", call, 100, contract=Contract(only=SMALL)).startswith(wrong)
    larger = partial(in_blocks, 64)
    declared = Contract(granularity={"weight": (1, 32)}, only={"k": (192,), "n": (3,)})
    assert of("sparse_linear", "unread", larger, 100, contract=declared).startswith(wrong)


def test_blocks_of_several_dimensions() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[4, 6] = mask[0, 1] = True
    found = blocks_of(mask, (2, 4))
    assert found.nonzero().tolist() == [
        *([0, k] for k in range(4)), *([1, k] for k in range(4)), [4, 4], [4, 5], [4, 6],
    ]  # fmt: skip


def bias_at_the_end(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    found = more_than(x, weight, threshold)
    return found if bias is None else found + bias


def test_a_bias_that_is_added_in_another_dtype() -> None:
    declared = Contract(adds={"bias": "operand"}, only=SMALL)
    for check in (*VALUES, "unread"):
        found = of("sparse_linear", check, bias_at_the_end, contract=declared)
        assert found.startswith("passed"), (check, found)
    assert examples("sparse_linear", bias_at_the_end, contract=Contract(only=SMALL)).startswith(
        "failed"
    )
    assert examples("sparse_linear", bias_at_the_end, contract=declared).startswith("passed")

    def doubled(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        return bias_at_the_end(x, weight, threshold, None if bias is None else bias * 1.02)

    assert examples("sparse_linear", doubled, contract=declared).startswith("failed")


def examples(op: str, call: Callable[..., Tensor], **given: Any) -> str:
    """What comes of 150 cases."""
    return of(op, "fuzz", call, 150, **given)


def test_a_computed_bound_follows_what_is_added() -> None:
    def biased(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        return x @ matrix.T + shift

    def draw(draw: Draw) -> dict[str, Tensor]:
        matrix = draw.weight(draw.case.n, draw.case.k)
        return {
            "x": randn(draw, draw.case.rows, draw.case.k),
            "matrix": matrix,
            # The sum is small beside what is added up to it.
            "shift": -matrix.double().sum(1).to(draw.dtype) + randn(draw, draw.case.n) / 64,
        }

    space = {"rows": (1, 3), "k": (16, 8), "n": (4, 64), "dtype": ("bfloat16",)}
    sparse_op(draw=draw, space=space)(biased)

    def at_the_end(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        return (x.float() @ matrix.float().T).to(x.dtype) + shift

    declared = {"contract": Contract(adds={"shift": "operand"})}
    assert examples("biased", at_the_end).startswith("failed")
    assert examples("biased", at_the_end, **declared).startswith("passed")
    assert examples(
        "biased", lambda x, matrix, shift: at_the_end(x, matrix, shift * 1.05), **declared
    ).startswith("failed")


def library_gate(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """The gate by a library, which rounds its products to x's dtype; the rest in float64."""
    given = SparseSwigluInputs(x, gate, up, down, threshold, activation)
    a = activate(activation, (x.float() @ gate.float().T).to(x.dtype).double())
    keep = ~(a.abs() <= threshold)
    h = a * (given.x.double() @ up.double().T)
    some = keep.any(0)
    kept = torch.where(keep, h, 0.0)[:, some]
    return (kept @ down.double()[:, some].T).to(x.dtype)


def test_operands_that_another_library_multiplies() -> None:
    declared = Contract(outside={"gate": "float32"}, only=SMALL | {"hidden": (16, 65)})
    for check in ("edges", "fuzz", "exact", "splitting", "unread"):
        found = of("sparse_swiglu", check, library_gate, contract=declared)
        assert found.startswith("passed"), (check, found)
    assert examples("sparse_swiglu", library_gate, contract=declared).startswith("passed")
    assert examples("sparse_swiglu", library_gate).startswith("failed")

    def rounded_up(**given: Any) -> Tensor:
        return library_gate(**given | {"up": given["up"] * 1.02})

    assert examples("sparse_swiglu", rounded_up, contract=declared).startswith("failed")


def test_another_library_may_read_all_of_its_operands() -> None:
    op, lot = OPS["hot_cold_mlp"], torch.Generator().manual_seed(0)
    x, up, down = (torch.randn(*shape, generator=lot) for shape in ((1, 8), (6, 8), (4, 6)))
    inputs = HotColdMlpInputs(x, up, down, hot=2, cold=torch.tensor([4], dtype=torch.int32))
    outside = as_declared(op, Contract(outside={"up": "float32"}))
    assert op.needed is not None
    assert outside.needed is not None
    assert not op.needed(inputs)["up"].all()
    assert outside.needed(inputs)["up"].all()
    assert torch.equal(outside.needed(inputs)["down"], op.needed(inputs)["down"])


def test_a_computed_bound_follows_what_is_outside() -> None:
    def two(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return (x @ first.T) @ second.T

    def draw(draw: Draw) -> dict[str, Tensor]:
        rows, k, n = draw.case.rows, draw.case.k, draw.case.n
        return {
            "x": randn(draw, rows, k),
            "first": draw.weight(32, k),
            "second": draw.weight(n, 32),
        }

    space = {"rows": (1, 3), "k": (16, 8), "n": (4, 64), "dtype": ("bfloat16",)}
    sparse_op(draw=draw, space=space)(two)

    def by_library(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        h = (x.float() @ first.float().T).to(x.dtype)
        return (h.float() @ second.float().T).to(x.dtype)

    declared = {"contract": Contract(outside={"first": "float32"})}
    assert examples("two", by_library).startswith("failed")
    assert examples("two", by_library, **declared).startswith("passed")

    def halved(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return by_library(x, first, second.half().to(x.dtype) * 0.97)

    assert examples("two", halved, **declared).startswith("failed")


TRITON = """
import torch
from pytest_sparsity.kernels.triton.sparse_linear import {name} as sparse
from pytest_sparsity.testing import Contract, above, sparse_kernel, sparse_op


def draw(draw):
    k, n = draw.case.k, draw.case.n
    x = draw.integers(2, 1, k).to(draw.dtype)
    return {{"x": x, "first": draw.integers(2, 64, k).to(draw.dtype),
            "second": draw.weight(n, 64)}}


def reads(x, first, second):
    keep = ((x.double() @ first.double().T).abs() > 3.0).any(0)
    first = torch.ones_like(first, dtype=torch.bool)
    return {{"first": first, "second": keep.expand(second.shape)}}


@sparse_op(draw=draw, space={{"k": (16, 8), "n": (64, 4), "dtype": ("float32",)}}, needed=reads)
def two_layers(x, first, second):
    h = x @ first.T
    keep = above(h.abs(), 3.0)
    return torch.where(keep, h, 0.0)[:, keep[0]] @ second[:, keep[0]].T


def call(x, first, second):
    return sparse(x=x @ first.T, weight=second, threshold=3.0)


sparse_kernel(op="two_layers", backend="triton", name="inside")(call)
sparse_kernel(
    op="two_layers", backend="triton", name="first",
    contract=Contract(outside={{"first": "float32"}}),
)(call)
sparse_kernel(
    op="two_layers", backend="triton", name="both",
    contract=Contract(outside={{"first": "float32", "second": "float32"}}),
)(call)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="there is no triton for this platform")
def test_what_is_outside_is_not_counted(tmp_path: Path) -> None:
    module = tmp_path / "two_layers.py"
    name = registry.kernel("sparse_linear/triton").call.__name__
    module.write_text(TRITON.format(name=name))
    given = {"module": str(module)}
    assert check_kernel("two_layers/first", "work", **given).outcomes[0].status == "passed"
    with pytest.raises(KernelFailure, match="does not load first in its launches"):
        check_kernel("two_layers/inside", "work", **given)
    with pytest.raises(SparsityError, match="leaves all weights of two_layers to another library"):
        check_kernel("two_layers/both", "work", **given)


def test_a_launch_that_loads_what_is_outside(tmp_path: Path) -> None:
    if find_spec("triton") is None:
        pytest.skip("there is no triton for this platform")
    call = registry.kernel("sparse_swiglu/triton").call
    module = tmp_path / "outside.py"
    module.write_text(
        f"from {call.__module__} import {call.__name__} as call\n"
        "from pytest_sparsity.testing import Contract, sparse_kernel\n"
        "sparse_kernel(op='sparse_swiglu', backend='triton', name='outside',\n"
        "              contract=Contract(outside={'gate': 'float32'}))(call)\n"
    )
    with pytest.raises(KernelFailure, match="loads gate in its launches, though its contract says"):
        check_kernel("sparse_swiglu/outside", "work", module=str(module))


@pytest.mark.parametrize(
    ("op", "contract", "words"),
    [
        ("sparse_linear_indexed", Contract(keeps=">="), "compares nothing with a threshold"),
        ("linear", Contract(granularity={"matrix": (1, 8)}), "does not say what must be read"),
        ("sparse_linear", Contract(granularity={"x": (1, 8)}), "those are weight"),
        ("sparse_linear", Contract(granularity={"weight": (8,)}), "which has 2 dimensions"),
        ("sparse_linear", Contract(adds={"weight": "float32"}), "it has bias"),
        ("sparse_swiglu", Contract(adds={"bias": "float32"}), "it has nothing to add"),
        ("linear", Contract(adds={"shift": "float32"}), "which is none of linear; it has matrix"),
        ("sparse_linear", Contract(outside={"x": "float32"}), "it has weight, threshold, bias"),
        ("sparse_linear", Contract(outside={"weight": "float32"}), "declare skips=False"),
    ],
)
def test_promises_that_mean_nothing(op: str, contract: Contract, words: str) -> None:
    register(linear)
    with pytest.raises(SparsityError) as caught:
        of(op, "fuzz", lambda **operands: operands["x"], contract=contract)
    assert words in str(caught.value)
