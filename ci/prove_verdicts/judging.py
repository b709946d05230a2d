"""The decisions on one cell of a simulated run, by the package's statistics and by others.

The steps are those of the sweep and of the accuracy gate, without records and files.  At each
planned look every decision on the cell gets the interval that holds over all looks; one that holds
for the run whatever the others say is red at once.  While one is suspect or inconclusive more data
are drawn, up to the last look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

import numpy as np
import numpy.typing as npt
from populations import Population

from pytest_sparsity.core.statistics import Interval, influence, paired_mean, paired_proportion
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.sweep.cell import TASK
from pytest_sparsity.sweep.evidence import beyond

Indices = npt.NDArray[np.int64]


class State(str, Enum):
    """What a decision comes to."""

    PASS = "pass"
    RED = "red"
    SUSPECT = "suspect"
    INCONCLUSIVE = "inconclusive"


_DECIDED = (State.PASS, State.RED)


@dataclass(frozen=True)
class Rule:
    """How a run decides.

    Attributes:
        decisions: of the run.
        error: chance that a run with nothing wrong is red.
        resamples: of each interval; the package takes more, here thousands of runs are decided.
    """

    decisions: int
    error: float = 0.01
    resamples: int = 2000


@dataclass(frozen=True)
class Judged:
    """A decision.

    Attributes:
        population: what was decided on.
        sample: names the draw, which other decisions share.
        state: by the package; what is suspect may still hold for the run.
        seen: the units that it was decided on.
        looks: how many were planned.
        equal: whether all these units are equal to the last bit.
        evidence: what speaks against it; only worked out where it is red or suspect.
        unadjusted: the state if each look took a 95 % interval, and what is beyond were red.
        once: the same with one look at the first amount of data.
    """

    population: Population
    sample: str
    state: State
    seen: Indices
    looks: int
    equal: bool
    evidence: Evidence | None
    unadjusted: State
    once: State

    @property
    def weighed(self) -> Evidence:
        """What speaks against it, for the run to weigh."""
        if self.evidence is not None:
            return self.evidence
        return _evidence(self.population, self.seen, self.looks, self.sample)


def judge(
    cell: Sequence[Population], drawn: Indices, amounts: Sequence[int], rule: Rule, sample: str
) -> list[Judged]:
    """Decide on drawn units.

    Args:
        cell: the decisions on one cell; all of them are looked at equally often.
        drawn: units, as many as the last look sees.
        amounts: how many of them each look sees.
        rule: of the run.
        sample: names the draw, which other decisions share.
    """
    unadjusted, once = _unadjusted(cell, drawn, amounts, rule)
    looks, seen = len(amounts), drawn
    found: list[tuple[State, Evidence | None]] = []
    for amount in amounts:
        seen = drawn[:amount]
        found = [_at_look(each, seen, looks, rule, sample) for each in cell]
        if all(state in _DECIDED for state, _ in found):
            break
    return [
        Judged(each, sample, state, seen, looks, _equal(each, seen), evidence, *others)
        for each, (state, evidence), *others in zip(cell, found, unadjusted, once, strict=True)
    ]


def _at_look(
    population: Population, seen: Indices, looks: int, rule: Rule, sample: str
) -> tuple[State, Evidence | None]:
    if _equal(population, seen):
        return State.PASS, None
    state = _by_interval(population, interval(population, seen, rule, looks))
    if state is not State.SUSPECT:
        return state, None
    evidence = _evidence(population, seen, looks, sample)
    holds = evidence.p <= rule.error / rule.decisions
    return State.RED if holds else state, evidence


def _equal(population: Population, seen: Indices) -> bool:
    return bool(population.equal[seen].all())


def _unadjusted(
    cell: Sequence[Population], drawn: Indices, amounts: Sequence[int], rule: Rule
) -> tuple[list[State], list[State]]:
    """The states by 95 % at each look, and at the first alone; suspect counts as red."""
    looks: list[list[State]] = []
    for amount in amounts:
        seen = drawn[:amount]
        looks.append([_unadjusted_at(each, seen, rule) for each in cell])
        if State.INCONCLUSIVE not in looks[-1]:
            break
    return looks[-1], looks[0]


def _unadjusted_at(population: Population, seen: Indices, rule: Rule) -> State:
    if _equal(population, seen):
        return State.PASS
    state = _by_interval(population, interval(population, seen, rule, 1))
    return State.RED if state is State.SUSPECT else state


def _by_interval(population: Population, found: Interval) -> State:
    if found.low > population.limit:
        return State.SUSPECT
    return State.PASS if found.high <= population.limit else State.INCONCLUSIVE


def interval(population: Population, seen: Indices, rule: Rule, looks: int) -> Interval:
    """The interval of the mean damage of these units, at 95 % over all looks."""
    damage = population.damage[seen]
    if population.kind == TASK:
        lost, won = int((damage > 0).sum()), int((damage < 0).sum())
        return _of_items(lost, won, len(seen), looks)
    return paired_mean(
        damage,
        population.weights[seen],
        seed=0,
        resamples=rule.resamples,
        looks=looks,
        bounds=population.bounds,
    )


@cache
def _of_items(lost: int, won: int, n: int, looks: int) -> Interval:
    """Of items of which so many were lost and won; all runs share those that come up again."""
    before = [True] * lost + [False] * (n - lost)
    now = [False] * lost + [True] * won + [False] * (n - lost - won)
    return paired_proportion(before, now, looks=looks)


def _evidence(population: Population, seen: Indices, looks: int, sample: str) -> Evidence:
    """As the sweep and the gate make it: in relative perplexity, not in its logarithm."""
    damage, weights, limit = population.damage[seen], population.weights[seen], population.limit
    counted = population.kind == TASK
    places = [str(place) for place in range(len(seen))]
    found = influence(damage, weights, units=places, bounds=population.bounds if counted else None)
    if population.relative:
        ratio = math.exp(found.estimate)
        found = replace(
            found, estimate=ratio - 1, error=ratio * found.error, values=ratio * found.values
        )
        limit = math.expm1(limit)
    bounds = None if counted else population.bounds
    return beyond(population.id, sample, found, limit, counted=counted, bounds=bounds, looks=looks)
