"""Instructions of native kernels, counted by valgrind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_sparsity.kernels.native.sparse_linear import sparse_linear
from pytest_sparsity.speed.gate import instructions

needs_valgrind = pytest.mark.skipif(
    instructions.obstacle() is not None, reason=str(instructions.obstacle())
)


def call(channels: int) -> Callable[[], Any]:
    """With so many of 512 channels active."""
    x = torch.zeros(1, 512)
    x[0, :channels] = 1
    weight = torch.ones(512, 512).T
    return lambda: sparse_linear(x, weight, 0.5)


@needs_valgrind
@pytest.mark.slow
def test_they_are_the_same_in_every_run_and_follow_the_work() -> None:
    few, again, many = (instructions.metrics(call(count)) for count in (8, 8, 512))
    ((name, number),) = few.items()
    assert name.startswith("instructions ")
    assert few == again
    assert number > 0
    assert many[name] > 2 * number


def test_kernels_that_are_not_native_have_none() -> None:
    assert instructions.metrics(lambda: torch.ones(2) + 1) == {}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    assert instructions.obstacle() == "valgrind is not installed"
    assert instructions.metrics(call(4)) == {}
