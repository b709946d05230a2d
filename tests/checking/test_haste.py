"""The interpreter is faster, and gives the same bits and the same errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(report_of: Callable[..., Any]) -> Any:
    pytest.importorskip("triton")
    return report_of("triton_hastened.py", TRITON_INTERPRET="1")


def test_results_have_the_same_bits(seen: Any) -> None:
    assert len(seen["before"]["results"]) == 42
    assert seen["after"]["results"] == seen["before"]["results"]


def test_lanes_that_are_masked_off_touch_no_memory(seen: Any) -> None:
    assert seen["after"]["inaccessible"] == seen["before"]["inaccessible"]
    assert seen["after"]["inaccessible"] != [0.0] * 4


def test_mistakes_raise_the_same(seen: Any) -> None:
    first, second, third, fourth = seen["before"]["errors"]
    assert "incompatible dimensions" in first
    assert "power of 2" in second
    assert third != "nothing"
    assert "nothing" not in fourth
    assert seen["after"]["errors"] == seen["before"]["errors"]
