"""The bound that is computed from a definition: no alarm on right results, none missed on wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.reference.decisions import above, largest, ruled
from pytest_sparsity.reference.narrowed import narrowed
from pytest_sparsity.reference.precision import TF32, Precision, tolerance_used
from pytest_sparsity.reference.stochastic import computed_bound

SINGLE = Precision(torch.float32, torch.float32, torch.float32)
PLACES = torch.arange(2000) % 7


def operands(seed: int) -> dict[str, Tensor]:
    lot = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2000, generator=lot)
    return {"x": x, "w": torch.randn(7, 2000, generator=lot) / 40}


def index_add(x: Tensor, w: Tensor) -> Tensor:
    return x.new_zeros(7, 3).index_add(0, PLACES, (x * w[:1]).T)


def scatter_add(x: Tensor, w: Tensor) -> Tensor:
    return x.new_zeros(3, 7).scatter_add(1, PLACES.expand(3, -1), x)


def index_put(x: Tensor, w: Tensor) -> Tensor:
    return x.new_zeros(7).index_put((PLACES,), x[0], accumulate=True)


def in_place(x: Tensor, w: Tensor) -> Tensor:
    total = x.new_zeros(3)
    for column in range(0, 2000, 20):
        total += x[:, column]
    return total.mul_(3.0)


DEFINITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda x, w: x @ w.T,
    "einsum": lambda x, w: torch.einsum("ik,jk->ij", x, w),
    "sum": lambda x, w: x.sum(-1),
    "mean of squares": lambda x, w: x.square().mean(-1),
    "variance": lambda x, w: x.var(-1),
    "cumsum": lambda x, w: x.cumsum(-1),
    "norm": lambda x, w: torch.linalg.vector_norm(x, dim=-1),
    "softmax": lambda x, w: torch.softmax(x, -1),
    "log softmax": lambda x, w: torch.log_softmax(x, -1),
    "logsumexp": lambda x, w: torch.logsumexp(x, -1),
    "layer norm": lambda x, w: functional.layer_norm(x, (2000,), w[0]),
    "attention": lambda x, w: functional.scaled_dot_product_attention(x[None], w[None], w[None]),
    "gated": lambda x, w: functional.silu(x @ w.T) * (x @ w.T),
    "index_add": index_add,
    "scatter_add": scatter_add,
    "index_put": index_put,
    "in place": in_place,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_right_results_are_within_and_wrong_ones_are_not(name: str) -> None:
    define = DEFINITIONS[name]
    for seed in range(3):
        given = operands(seed)
        wide = {key: value.double() for key, value in given.items()}
        reference = define(**wide)
        (bound,) = computed_bound(define, wide, SINGLE)
        for found in (define(**given), _in_float32(define, wide)):
            assert float(tolerance_used(found.float(), reference, bound).max()) <= 1
        wrong = (reference * 1.01).float()
        assert float(tolerance_used(wrong, reference, bound).max()) > 1


def _in_float32(define: Callable[[Tensor, Tensor], Tensor], wide: dict[str, Tensor]) -> Tensor:
    with narrowed(torch.float32):
        return define(**wide)


def test_operands_are_left_as_they_are() -> None:
    packed = torch.arange(16, dtype=torch.uint8)

    def define(packed: Tensor) -> Tensor:
        return (packed >> 4).double() + (packed & 0xF).double()

    before = packed.clone()
    computed_bound(define, {"packed": packed}, SINGLE)
    with narrowed(torch.float32):
        define(packed)
    assert torch.equal(packed, before)


def test_the_same_bound_every_time() -> None:
    wide = {key: value.double() for key, value in operands(0).items()}
    first, second = (computed_bound(DEFINITIONS["gated"], wide, SINGLE)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_narrower_sums_have_wider_bounds() -> None:
    wide = {key: value.double() for key, value in operands(0).items()}
    half = Precision(torch.float32, torch.bfloat16, torch.bfloat16)
    single, halved = (
        computed_bound(DEFINITIONS["gated"], wide, precision)[0] for precision in (SINGLE, half)
    )
    assert bool((halved > 100 * single).all())


def test_factors_in_tf32_have_wider_bounds_where_they_are_multiplied() -> None:
    wide = {key: value.double() for key, value in operands(0).items()}
    tf32 = replace(SINGLE, factors=TF32)

    def factor(define: str) -> float:
        before, after = (computed_bound(DEFINITIONS[define], wide, p)[0] for p in (SINGLE, tf32))
        return float((after / before).min())

    assert factor("product") > 10
    assert factor("sum") == 1


def test_only_what_is_near_the_edge_may_fall_to_either_side() -> None:
    x = torch.tensor([1.0, 1.0 + 2**-40, 0.5, 2.0], dtype=torch.float64)

    def define(x: Tensor) -> Tensor:
        return torch.where(above(x * 1.0, 1.0), x, 0.0)

    (bound,) = computed_bound(define, {"x": x}, SINGLE)
    assert (bound > 0.5).tolist() == [True, True, False, False]


def test_the_largest_of_values_that_are_nearly_equal() -> None:
    x = torch.tensor([3.0, 1.0, 1.0 + 2**-40, 0.5], dtype=torch.float64)

    def define(x: Tensor) -> Tensor:
        return torch.where(largest(x * 1.0, 2), 1.0, 0.0)

    assert define(x).tolist() == [1, 0, 1, 0]
    (bound,) = computed_bound(define, {"x": x}, SINGLE)
    assert (bound > 0.5).tolist() == [False, True, True, False]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_largest_takes_as_many_as_asked(count: int) -> None:
    x = torch.tensor([[1.0, 1.0, 2.0, float("nan")]])
    assert int(largest(x, count).sum()) == count


def test_rulings_are_of_one_block() -> None:
    values = torch.tensor([1.0, 2.0])
    with ruled(lambda decision, number: decision.other):
        assert above(values, 1.5).tolist() == [True, False]
    assert above(values, 1.5).tolist() == [False, True]
