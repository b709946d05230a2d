"""Intervals hold the truth as often as they say, where it is hardest: few, skewed, equal units.

``ci/interval_coverage.py`` draws the data, and prints the whole table.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pytest_sparsity.core.statistics import Interval

SCRIPT = Path(__file__).parents[2] / "ci" / "interval_coverage.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("interval_coverage_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def _kind(kinds, name: str):
    return next(kind for kind in kinds if kind.name == name)


def _holds(found, runs: int, at_least: float, errors: float = 1.5) -> None:
    """The coverage is no more than so many standard errors below ``at_least``."""
    error = math.sqrt(at_least * (1 - at_least) / runs)
    assert found.held >= at_least - errors * error, f"{found.held:.1%} of {runs}"


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("lognormal, sigma 1", 5),
        ("lognormal, sigma 1", 8),
        ("lognormal, sigma 1", 12),
        ("Student's t, 3 degrees", 12),
        ("0/1 at 10 %", 12),
        ("80 % zeros, normal", 20),
        ("80 % zeros, normal about 1", 20),
    ],
)
def test_of_what_nothing_is_known(script: ModuleType, name: str, n: int) -> None:
    make = script.now("mean", resamples=1000)
    found = script.simulate(_kind(script.OPEN, name), n, part="mean", runs=600, make=make, seed=1)
    _holds(found, 600, 0.93)


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("0/1 at 1 %", 5),
        ("0/1 at 10 %", 12),
        ("0/1 at 50 %", 8),
        ("agreement, beta(9, 1)", 12),
        ("60 % on the path, uniform off it", 8),
    ],
)
def test_of_what_is_bounded_there_are_always_limits(script: ModuleType, name: str, n: int) -> None:
    make = script.now("weighted", resamples=1000)
    kind = _kind(script.CLOSED, name)
    found = script.simulate(kind, n, part="weighted", runs=400, make=make, seed=1)
    _holds(found, 400, 0.93)
    assert found.infinite == 0


def test_a_ratio_with_random_weights(script: ModuleType) -> None:
    kind = _kind(script.OPEN, "lognormal, sigma 1")
    make = script.now("ratio", resamples=1000)
    _holds(script.simulate(kind, 12, part="ratio", runs=600, make=make, seed=1), 600, 0.93)


def test_three_looks_together(script: ModuleType) -> None:
    kind = _kind(script.OPEN, "normal")
    how = {"part": "mean", "runs": 300, "make": script.now("mean", resamples=1000), "seed": 1}
    found = script.simulate(kind, 16, looks=3, **how)
    _holds(found, 300, 0.95)
    # A pass that is wrong is an upper limit below the truth, whatever the look.
    assert found.high <= 0.025 + 1.5 * math.sqrt(0.025 * 0.975 / 300)


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 8, 20, 64])
@pytest.mark.parametrize("looks", [1, 3])
def test_every_kind(script: ModuleType, n: int, looks: int) -> None:
    for part, kinds in (("mean", script.OPEN), ("weighted", script.CLOSED), ("ratio", script.OPEN)):
        make = script.now(part, resamples=1000)
        for kind in kinds:
            found = script.simulate(kind, n, part=part, runs=300, looks=looks, make=make, seed=2)
            _holds(found, 300, 0.93, errors=3)  # of some 200 counts


def test_misses_are_counted_on_their_side(script: ModuleType) -> None:
    held, above = (Interval(0.0, -1, 1, 4),), (Interval(2.0, 1, math.inf, 4),)
    late = (Interval(0.0, -1, 1, 4), Interval(-2.0, -3, -1, 8))
    found = script.count([held, above, late, held], 0.0)
    assert (found.low, found.high, found.held) == (0.25, 0.25, 0.5)
    assert (found.infinite, found.width) == (0.25, 2.0)


def test_the_table(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    script.main(["mean", "shares", "--runs", "4", "--units", "5", "--only", "normal"])
    lines = capsys.readouterr().out.splitlines()
    assert "### mean" in lines
    assert any(line.startswith("| 80 % zeros, normal | 5 |") for line in lines)
    worst = [float(cell) for cell in lines[-1].split("|")[2:-1]]
    assert len(worst) == 4
    assert max(worst) <= 2.5
