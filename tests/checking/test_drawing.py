"""Cases are drawn by lot, every value in turn, and one that fails is made simple."""

from __future__ import annotations

from collections import Counter
from itertools import product

import torch
from torch import Tensor

from pytest_sparsity.checking import runner
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space, space
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import sparse_kernel


def test_the_simplest_is_first_and_no_case_comes_twice() -> None:
    cases = list(space("sparse_linear").draw(300, 1))
    assert cases[0] == record("sparse_linear").simplest
    assert len(cases) == len(set(cases)) == 300


def test_a_seed_draws_its_own_cases() -> None:
    first, again, other = (list(space("sparse_linear").draw(30, seed)) for seed in (1, 1, 2))
    assert first == again
    assert set(first[1:]).isdisjoint(other[1:])


def test_every_value_comes_as_often_as_it_is_there() -> None:
    among = ("float32", "float32", "float16", "bfloat16")
    cases = list(space("sparse_linear", dtype=among, layout=("best", "pitch")).draw(81, 0))[1:]
    assert Counter(case.dtype for case in cases) == {"float32": 40, "float16": 20, "bfloat16": 20}
    pairs = Counter((case.dtype, case.layout) for case in cases)
    assert pairs.keys() == set(product(set(among), ("best", "pitch")))
    assert len({case.k for case in cases}) > 60


def test_a_small_space_gives_what_it_has() -> None:
    own = record("sparse_linear")
    small = Space(own, {"rows": (1, 2), "k": (3,), "n": (4,), "dtype": ("float32", "float16")})
    assert len(list(small.draw(100, 0))) == 4


def test_what_fails_is_made_simple(forgotten: None) -> None:
    @sparse_kernel(op="sparse_linear", backend="wide", skips=False)
    def wide(x: Tensor, weight: Tensor, threshold: Tensor, bias: Tensor | None) -> Tensor:
        kept = torch.where(x.abs() <= threshold, 0, x)
        kept[:, 17:] = 0
        return torch.nn.functional.linear(kept, weight, bias)

    found = runner.run(registry.kernel("sparse_linear/wide"), "fuzz", 60)
    assert found.status == "failed"
    assert found.case is not None
    assert (found.case.rows, found.case.n, found.case.layout) == (1, 1, "best")
    assert 18 <= found.case.k <= 21  # in steps of an eighth
    assert found.examples == len(found.begun) < 60


def test_what_fails_once_is_told_so(forgotten: None) -> None:
    calls = []

    @sparse_kernel(op="sparse_linear", backend="moody", skips=False)
    def moody(x: Tensor, weight: Tensor, threshold: Tensor, bias: Tensor | None) -> Tensor:
        calls.append(x)
        kept = torch.where(x.abs() <= threshold, 0, x)
        result = torch.nn.functional.linear(kept, weight, bias)
        return result.fill_(12345.0) if len(calls) == 5 else result

    found = runner.run(registry.kernel("sparse_linear/moody"), "fuzz", 60)
    assert found.message.endswith(", though not every time")
    assert len(found.begun) == 5
