"""Cases as the checks draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from pytest_sparsity.checking.space import space
from pytest_sparsity.testing import Case


@pytest.fixture(scope="session")
def drawn() -> Callable[..., list[Case]]:
    """``drawn(op, count, **fixed)``: that many cases, the same every time."""

    def draw(op: str, count: int, **fixed: Any) -> list[Case]:
        cases: list[Case] = []

        @hypothesis.seed(0)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(space(op, **fixed).strategy())
        def collect(case: Case) -> None:
            cases.append(case)

        collect()
        return cases

    return draw
