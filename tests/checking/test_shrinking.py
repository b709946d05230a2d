"""The simplest case of a crash: over all that an op's cases vary in, with few processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.process import Death
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.shrinking import simpler_cases, simplest_death
from pytest_sparsity.kernels import registry

SWIGLU = Case(
    rows=5, k=577, n=640, dtype="float16", level=0.9, pattern="blocks", values="small", seed=77
).with_options(hidden=257, activation="gelu_tanh")
HOT = Case(rows=8, k=192, n=129, dtype="bfloat16", pattern="last", seed=3).with_options(
    hidden=63, hot=31, activation="silu", gate=True
)


def sought(
    kernel: str, first: Case, crashes: Callable[[Case], bool], check: str = "fuzz"
) -> tuple[Case | None, int]:
    """The case that is found, and how many processes ended."""
    deaths = []

    def attempt(case: Case) -> Death | None:
        if not crashes(case):
            return None
        deaths.append(case)
        return Death("was killed by SIGSEGV", case, 1, "")

    found = registry.kernel(kernel)
    simpler = simpler_cases(record(found.op), found, check)
    death = simplest_death(Death("was killed by SIGSEGV", first, 9, ""), attempt, simpler)
    return None if death is None else death.case, len(deaths)


def hidden(case: Case) -> int:
    return int(case.option("hidden", 0))


@pytest.mark.parametrize(
    ("kernel", "first", "crashes", "simplest"),
    [
        (
            "sparse_swiglu/torch",
            SWIGLU,
            lambda case: True,
            Case(rows=1, k=1, n=1).with_options(hidden=1, activation="silu"),
        ),
        (
            "sparse_swiglu/torch",
            SWIGLU,
            lambda case: hidden(case) >= 7 and case.option("activation", "") == "gelu_tanh",
            Case(rows=1, k=1, n=1).with_options(hidden=7, activation="gelu_tanh"),
        ),
        (
            "sparse_swiglu/torch",
            SWIGLU,
            lambda case: case.dtype == "float16" and case.values == "small" and case.rows > 1,
            Case(rows=2, k=1, n=1, dtype="float16", values="small").with_options(
                hidden=1, activation="silu"
            ),
        ),
        (
            "hot_cold_mlp/torch",
            HOT,
            lambda case: bool(case.option("gate", False)) and case.option("hot", 0) >= 2,
            Case(rows=1, k=1, n=1).with_options(hot=2, gate=True),
        ),
    ],
)
def test_everything_is_made_simple_that_does_not_matter(
    kernel: str, first: Case, crashes: Callable[[Case], bool], simplest: Case
) -> None:
    found, deaths = sought(kernel, first, crashes)
    assert found is not None
    simple = {name for name in dict(simplest.options) if name != "activation"}
    assert {n: found.option(n, None) for n in simple} == {
        n: simplest.option(n, None) for n in simple
    }
    for name in ("rows", "k", "n", "dtype", "values", "pattern", "layout", "seed"):
        assert getattr(found, name) == getattr(simplest, name), name
    assert deaths <= 12


def test_it_ends_after_some_processes() -> None:
    """Also where every case crashes only a little simpler than the last."""
    seen: list[Case] = []

    def crashes(case: Case) -> bool:
        less = not seen or (hidden(case) == hidden(seen[-1]) and case.seed == seen[-1].seed)
        if less:
            seen.append(case)
        return less

    _, deaths = sought("sparse_swiglu/torch", SWIGLU, crashes)
    assert deaths <= 12


def test_a_case_that_is_not_enough() -> None:
    assert sought("sparse_linear/torch", Case(rows=1, k=8, n=8), lambda case: False) == (None, 0)


def test_a_hanging_process_ends_the_search() -> None:
    attempts = []

    def attempt(case: Case) -> Death:
        attempts.append(case)
        return Death("hung: no new case within 60 s", case, 1, "")

    kernel = registry.kernel("sparse_linear/torch")
    first = Death("was killed by SIGSEGV", Case(rows=1, k=8, n=8), 3, "")
    simpler = simpler_cases(record(kernel.op), kernel, "fuzz")
    assert simplest_death(first, attempt, simpler) is None
    assert len(attempts) == 1


def test_values_that_a_check_needs_stay() -> None:
    first = Case(rows=3, k=65, n=63, values="integer", layout="pitch", bias=True)
    found, _ = sought("sparse_linear/torch", first, lambda case: True, "exact")
    assert found is not None
    assert (found.values, found.layout, found.bias, found.k) == ("integer", "best", False, 1)
