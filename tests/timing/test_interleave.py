"""Contenders get the same machine, and their ratio's interval holds the true ratio."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from pytest_sparsity.speed.interleaved import interleave, ratio


class Machine:
    """A clock that only contenders move, and a log of what ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def contender(self, name: str, *durations: float) -> Callable[[], None]:
        """Takes the given seconds run by run; the last one from then on."""
        left = list(durations)

        def run() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("pytest_sparsity.speed.interleaved.perf_counter", lambda: machine.now)
    # A full collection takes a quarter of a second once torch is imported.
    monkeypatch.setattr("pytest_sparsity.speed.interleaved.gc.collect", lambda: 0)
    return machine


def test_every_round_runs_everyone_once_in_an_order_of_its_own(machine: Machine) -> None:
    contenders = {name: machine.contender(name, 1.0) for name in "abcd"}
    interleave(contenders, 12, seed=0)
    warm_up, timed = machine.log[:4], machine.log[4:]
    assert warm_up == list("abcd")
    rounds = [timed[start : start + 4] for start in range(0, 48, 4)]
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len({tuple(names) for names in rounds}) > 6


def test_same_seed_same_order(machine: Machine) -> None:
    logs = []
    for seed in (3, 3, 4):
        machine.log.clear()
        interleave({name: machine.contender(name, 1.0) for name in "abcd"}, 3, seed)
        logs.append(list(machine.log))
    assert logs[0] == logs[1] != logs[2]


def test_warm_up_is_not_timed(machine: Machine) -> None:
    cold = {"a": machine.contender("a", 100.0, 1.0, 2.0), "b": machine.contender("b", 50.0, 3.0)}
    assert interleave(cold, 2, seed=0) == {"a": [1.0, 2.0], "b": [3.0, 3.0]}


def test_done_is_told_after_each_timed_run_and_costs_nothing(machine: Machine) -> None:
    told = machine.contender("told", 1000.0)
    seconds = interleave({"a": machine.contender("a", 1.0)}, 3, 0, told)
    assert machine.log == ["a", *["a", "told"] * 3]
    assert seconds == {"a": [1.0] * 3}


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_collector_is_off_while_timing_and_given_back(was_on: bool) -> None:
    seen: list[bool] = []
    try:
        if not was_on:
            gc.disable()
        interleave({"a": lambda: seen.append(gc.isenabled())}, 2, seed=0)
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert seen == [was_on, False, False]


def test_garbage_collector_is_given_back_after_a_failure() -> None:
    runs = iter([None])

    def fails_when_timed() -> None:
        next(runs)

    with pytest.raises(StopIteration):
        interleave({"a": fails_when_timed}, 2, seed=0)
    assert gc.isenabled()


@pytest.mark.parametrize(("contenders", "rounds"), [({}, 3), ({"a": int}, 0)])
def test_nothing_to_time(contenders: dict[str, Callable[[], object]], rounds: int) -> None:
    with pytest.raises(ValueError, match=f"^nothing to time: .* {rounds} rounds$"):
        interleave(contenders, rounds, seed=0)


def test_a_machine_that_slows_down_does_not_change_the_ratio(machine: Machine) -> None:
    """What interleaving is for: a drift that would ruin block-wise timing cancels."""
    drift = [1.5**i for i in range(11)]
    contenders = {
        "slow": machine.contender("slow", *[1.2 * d for d in drift]),
        "fast": machine.contender("fast", *drift),
    }
    seconds = interleave(contenders, 10, seed=0)
    found = ratio(seconds["slow"], seconds["fast"])
    assert (found.low, found.estimate, found.high) == pytest.approx((1.2, 1.2, 1.2))


# ratio


def test_ratio_is_between_order_statistics() -> None:
    """For 10 rounds, the second smallest and largest (Conover, table A3: 97.9 %)."""
    times = [3.0, 1.0, 2.0, 10.0, 5.0, 4.0, 8.0, 6.0, 7.0, 9.0]
    found = ratio(times, [1.0] * 10)
    assert (found.low, found.estimate, found.high, found.n) == (2.0, 5.5, 9.0, 10)


def test_one_spoiled_round_does_not_matter() -> None:
    times = [1.0 + i / 1000 for i in range(10)]
    spoiled = [*times[:9], 100.0]
    assert ratio(spoiled, [1.0] * 10).high < 1.01


@pytest.mark.parametrize(("rounds", "width"), [(6, 1.0), (10, 0.3), (20, 0.1)])
def test_ratio_covers_the_truth(rounds: int, width: float) -> None:
    """Of times with slow rounds on either side, at least 95 in 100 intervals hold the truth."""
    rng = random.Random(rounds)
    runs, truth = 600, 0.9

    def seconds(mean: float) -> list[float]:
        noise = [rng.lognormvariate(0, 0.05) for _ in range(rounds)]
        return [mean * n * (3 if rng.random() < 0.1 else 1) for n in noise]

    found = [ratio(seconds(truth), seconds(1.0)) for _ in range(runs)]
    hits = sum(interval.low <= truth <= interval.high for interval in found)
    assert binomtest(hits, runs).proportion_ci(0.999).high >= 0.95
    assert np.median([interval.high - interval.low for interval in found]) < width


def test_too_few_rounds_set_no_limits() -> None:
    found = ratio([2.0] * 5, [1.0] * 5)
    assert (found.low, found.estimate, found.high) == (-math.inf, 2.0, math.inf)
    assert found.note == "no limits: 5 rounds are too few"


def test_differences_of_times_may_be_negative() -> None:
    found = ratio([-0.5] * 6, [2.0] * 6)
    assert (found.low, found.estimate, found.high) == (-0.25, -0.25, -0.25)


@pytest.mark.parametrize(
    ("numerator", "denominator", "message"),
    [
        ([], [], "at least one, not 0 and 0"),
        ([1.0], [1.0, 2.0], "of the same rounds, at least one, not 1 and 2"),
        ([math.nan], [1.0], "times must be finite"),
        ([1.0], [math.inf], "times must be finite"),
        ([1.0], [0.0], "those of the denominator positive"),
    ],
)
def test_bad_times(numerator: list[float], denominator: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio(numerator, denominator)
