"""Cases as the checks draw them, and a registry that forgets what a test put into it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from pytest_sparsity.checking.space import space
from pytest_sparsity.testing import Case

sys.path.insert(0, str(Path(__file__).parent))  # foreign_ops


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


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is known to that test only."""
    from pytest_sparsity.checking import consistency, records
    from pytest_sparsity.kernels import registry
    from pytest_sparsity.reference import ops

    records.records()
    monkeypatch.setattr(ops, "_OPS", known := dict(ops.OPS))
    for module in (ops, registry):
        monkeypatch.setattr(module, "OPS", known)
    monkeypatch.setattr(records, "_RECORDS", dict(records._RECORDS))
    monkeypatch.setattr(registry, "_KERNELS", dict(registry.registered()))
    consistency.check_record.cache_clear()
    yield
    consistency.check_record.cache_clear()
