"""One rule for one kernel; among many, a regression needs as much more evidence."""

from __future__ import annotations

import random

import pytest

from pytest_sparsity.speed.gate import many, rules


def times(slower: float, rounds: int, seed: int, noise: float = 0.02) -> tuple[list[float], ...]:
    drawn = random.Random(seed)
    base = [1.0 + abs(drawn.gauss(0, noise)) for _ in range(rounds)]
    return [slower * (1.0 + abs(drawn.gauss(0, noise))) for _ in range(rounds)], base


def test_one_kernel_at_1_percent_is_measured_as_in_the_proof():
    assert many.second_rounds(0.01) == rules.SECOND_ROUNDS
    assert many.processes(0.01) == rules.PROCESSES


@pytest.mark.parametrize(("kernels", "rounds", "processes"), [(10, 75, 5), (100, 95, 6)])
def test_more_kernels_take_more_rounds_and_processes(kernels, rounds, processes):
    level = 0.01 / kernels
    assert many.second_rounds(level) == rounds
    assert many.processes(level) == processes
    assert many.p_of_processes(processes) <= level


@pytest.mark.parametrize("kernels", [1, 10, 100, 1000])
def test_one_block_that_is_not_slower_spoils_nothing(kernels):
    level = 0.01 / kernels
    rounds = many.second_rounds(level)
    slow, base = [1.1] * rounds, [1.0] * rounds
    assert many.p_of_rounds(slow, base) <= level
    slow[:5] = [0.9] * 5
    assert many.p_of_rounds(slow, base) <= level


def test_what_is_the_same_is_seldom_that_far_out():
    """Of 300 looks at the same kernel at most 2 % have a p of 1 %."""
    found = [many.p_of_rounds(*times(1.0, 60, seed)) for seed in range(300)]
    assert sum(p <= 0.01 for p in found) <= 6


def test_what_is_slower_by_a_tenth_holds_among_a_hundred():
    level = 0.01 / 100
    rounds = many.second_rounds(level)
    found = [many.p_of_rounds(*times(1.1, rounds, seed)) for seed in range(50)]
    assert all(p <= level for p in found)


def test_a_stored_time_must_be_exceeded_in_as_many_processes_as_are_asked():
    slower = [1.3, 1.3, 1.3]
    assert rules.stored(1.0, 0.0, slower, 0.1).decision.value == "regressed"
    assert rules.stored(1.0, 0.0, slower, 0.1, needed=4).decision.value == "inconclusive"
    assert rules.stored(1.0, 0.0, [*slower, 1.3], 0.1, needed=4).decision.value == "regressed"
