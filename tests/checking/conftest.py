"""Cases as the checks draw them, and a registry that forgets what a test put into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
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
def forgotten(own_kernels: None) -> Iterator[None]:
    """What a test registers is known to that test only."""
    from pytest_sparsity.checking import records
    from pytest_sparsity.reference import ops

    tables = [(ops._OPS, dict(ops.OPS)), (records._RECORDS, dict(records.records()))]
    yield
    for table, before in tables:  # the very same: many modules hold them
        table.clear()
        table.update(before)


@pytest.fixture(scope="session")
def report_of() -> Callable[..., Any]:
    """``report_of(script, **environment)``: the JSON that a script beside this file prints."""

    def run(script: str, **environment: str) -> Any:
        rest = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script))],
            env={**rest, **environment},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def layouts() -> dict[str, torch.Tensor]:
    """Views of one tensor that are 7 outputs of 5 channels, in all layouts."""
    base = torch.arange(400.0)
    return {
        "output-major": base[:35].view(7, 5),
        "input-major": base[:35].view(5, 7).t(),
        "pitch": base.view(10, 40)[:7, :5],
        "slice": base.view(20, 20)[3:10, 2:7],
        "strided": base.view(20, 20)[::2, ::3][:7, :5],
        "broadcast": base[:5].expand(7, 5),
        "odd address": base[1:36].view(7, 5),
        "empty": base[:0].view(0, 5),
    }
