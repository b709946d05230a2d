"""The rules on synthetic times: what each decides, how often they are wrong, what they find."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.speed.gate import rules
from pytest_sparsity.speed.gate.rules import ab_first, ab_second, stored

QUIET = [1.0 + 0.001 * (i % 7) for i in range(30)]


def times(factor: float) -> list[float]:
    return [factor * value for value in QUIET]


def noisy(rng: np.random.Generator, rounds: int) -> tuple[list[float], list[float]]:
    """Two equal contenders on a shared machine: slow phases, heavy tails, a two-percent jitter."""
    both = np.ones(rounds)
    if rng.random() < 1 / 3:  # a neighbour, for a part of the time
        start, length = rng.integers(0, rounds), rng.integers(5, rounds)
        both[start : start + length] *= rng.uniform(1.1, 2)

    def one() -> list[float]:
        jitter = np.exp(np.abs(rng.normal(0, 0.03, rounds)))
        spikes = np.where(rng.random(rounds) < 0.3, 1 + 0.3 * rng.pareto(1.2, rounds), 1)
        found: list[float] = (both * jitter * spikes).tolist()
        return found

    return one(), one()


def decided(rng: np.random.Generator, slowdown: float) -> Decision:
    """One decision as the gate makes it: a suspicion is decided by fresh rounds."""

    def look(rule: Callable[..., rules.SpeedComparison], rounds: int) -> Decision:
        candidate, other = noisy(rng, rounds)
        return rule([slowdown * x for x in candidate], other, rules.TOLERANCE_CPU).decision

    first = look(ab_first, rules.FIRST_ROUNDS)
    if first is Decision.OK:
        return first
    return look(ab_second, rules.SECOND_ROUNDS)


@pytest.mark.parametrize(
    ("factor", "decision"),
    [
        (1.0, Decision.OK),
        (1.03, Decision.OK),
        (1.07, Decision.OK),  # the whole interval is within the tolerance
        (1.1, Decision.REGRESSED),
        (2.0, Decision.REGRESSED),
        (0.95, Decision.OK),
        (0.9, Decision.IMPROVED),
    ],
)
def test_side_by_side(factor: float, decision: Decision) -> None:
    for rule, stage in ((ab_first, 1), (ab_second, 2)):
        comparison = rule(times(factor), QUIET, 0.08)
        assert comparison.decision is decision
        assert comparison.stage == stage
        assert comparison.ratio is not None
        assert comparison.ratio.estimate == pytest.approx(factor)
        assert comparison.tolerance == 0.08
        assert comparison.rounds == 30


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_on_a_machine_that_is_too_busy_nothing_is_slower_or_faster(factor: float) -> None:
    busy = [value * (1.0 if i % 5 == 0 else 2.5) for i, value in enumerate(QUIET)]
    for candidate, baseline in ((busy, times(1 / factor)), (times(factor), busy)):
        comparison = ab_second(candidate, baseline, 0.04)
        assert comparison.decision is Decision.INCONCLUSIVE
        assert "too busy: the median round took 2.5 times" in comparison.reason
    much = ab_second(busy, times(0.3), 0.04)
    assert much.decision is Decision.REGRESSED
    assert stored(1.0, 0.01, [3.5, 3.4, 3.6], 0.1, noise=2.5).decision is Decision.REGRESSED
    comparison = stored(1.0, 0.01, [1.5, 1.4, 1.6], 0.1, noise=2.5)
    assert comparison.decision is Decision.INCONCLUSIVE
    assert "too busy" in comparison.reason


@pytest.mark.parametrize("blocks", [(1.0, 1.2, 1.2, 1.0, 1.2, 1.0), (0.9, 0.9, 1.2, 1.0, 1.2, 1.0)])
def test_blocks_that_disagree_neither_condemn_nor_acquit(blocks: tuple[float, ...]) -> None:
    comparison = ab_first([x for x in blocks for _ in range(5)], [1.0] * 30, 0.04)
    assert comparison.decision is Decision.INCONCLUSIVE
    assert not comparison.decision.decided
    assert comparison.ratio is not None
    assert comparison.ratio.low <= 1 <= comparison.ratio.estimate
    assert comparison.ratio.high > 1.04


def test_moments_of_unusual_speed_decide_nothing() -> None:
    """Three samples of the candidate are faster than any of the other, and all else is slower."""
    comparison = ab_first([0.7] * 3 + [1.2] * 57, [1.0] * 60, 0.04)
    assert comparison.decision is Decision.REGRESSED


@pytest.mark.parametrize(
    ("runs", "spread", "decision"),
    [
        ([1.05], 0.0, Decision.OK),
        ([1.15], 0.0, Decision.INCONCLUSIVE),
        ([1.15, 1.15], 0.0, Decision.INCONCLUSIVE),
        ([1.15, 1.15, 1.15], 0.0, Decision.REGRESSED),
        ([1.15, 1.15, 1.05], 0.0, Decision.OK),
        ([1.15], 0.06, Decision.OK),  # the processes it was stored from differ as much
        ([0.8], 0.0, Decision.IMPROVED),
    ],
)
def test_against_a_stored_time(runs: list[float], spread: float, decision: Decision) -> None:
    comparison = stored(1.0, spread, runs, 0.1)
    assert comparison.decision is decision
    assert comparison.tolerance == max(0.1, 3 * spread)
    assert comparison.candidate == min(runs)


def test_equal_code_is_not_alarmed() -> None:
    rng = np.random.default_rng(1)
    found = [decided(rng, 1.0) for _ in range(3000)]
    assert found.count(Decision.REGRESSED) <= 30
    assert found.count(Decision.INCONCLUSIVE) <= 30


def test_equal_code_is_not_alarmed_by_a_stored_time() -> None:
    rng = np.random.default_rng(2)

    def process() -> float:
        """Best of a process; every tenth is in a slow mode for all its life."""
        mode = 1.3 if rng.random() < 0.1 else 1.0
        return mode * float(np.sort(noisy(rng, 30)[0])[:3].mean())

    alarms = 0
    for _ in range(2000):
        bests = sorted(process() for _ in range(rules.STORED_PROCESSES))
        spread = float(np.std(bests[:3], ddof=1)) / bests[0]
        runs = [process()]
        while stored(min(bests), spread, runs, 0.1).decision is Decision.INCONCLUSIVE:
            runs.append(process())
        alarms += stored(min(bests), spread, runs, 0.1).decision is Decision.REGRESSED
    assert alarms <= 20


@pytest.mark.parametrize(("slowdown", "caught"), [(1.1, 0.9), (1.2, 0.99)])
def test_slow_downs_are_caught(slowdown: float, caught: float) -> None:
    rng = np.random.default_rng(3)
    found = [decided(rng, slowdown) for _ in range(500)]
    assert found.count(Decision.REGRESSED) >= caught * len(found)


@pytest.mark.parametrize(
    ("candidate", "other"),
    [([1.0] * 30, [1.0] * 29), ([1.0] * 9, [1.0] * 9), ([0.0] * 30, [1.0] * 30), ([], [])],
)
def test_what_cannot_be_compared(candidate: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|positive"):
        ab_first(candidate, other, 0.08)
    with pytest.raises(ValueError, match="nothing was timed"):
        stored(1.0, 0.0, [], 0.1)
