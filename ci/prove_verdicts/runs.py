"""Runs drawn from populations: every decision of a run on the same documents and items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from judging import Judged, Rule, State, judge
from other_rules import called_worse
from populations import Population

from pytest_sparsity.core.statistics.family import adjusted
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, TASK

#: Units that each planned look sees, by kind: those of the quick profile.
SWEEP: Mapping[str, Sequence[int]] = {
    PERPLEXITY: (32, 64, 96),
    TASK: (100, 200, 300),
    GENERATION: (8,),
}
#: The gate looks once, at as much as was stored.
GATE: Mapping[str, Sequence[int]] = {PERPLEXITY: (32,), TASK: (100,), GENERATION: (8,)}


@dataclass
class Counted:
    """What many runs came to.

    Attributes:
        runs: how many.
        decisions: of each run.
        red: runs that are red, by rule; ours is ``OURS``.
        marked: runs with at least a suspect decision, by ours.
        states: by rule and decision, how often it came to what.
    """

    runs: int = 0
    decisions: int = 0
    red: Counter[str] = field(default_factory=Counter)
    marked: int = 0
    states: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "runs": self.runs,
            "decisions": self.decisions,
            "red": dict(self.red),
            "marked": self.marked,
            "states": self.states,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Counted:
        """Read what :meth:`to_json` made."""
        found = cls(**{name: content[name] for name in ("runs", "decisions", "marked")})
        found.red.update(content["red"])
        found._add_states(content["states"])
        return found

    def add(self, other: Counted) -> None:
        """Count the runs of another part of the same scenario, too."""
        self.runs += other.runs
        self.marked += other.marked
        self.decisions = other.decisions
        self.red.update(other.red)
        self._add_states(other.states)

    def of(self, rule: str) -> Counter[str]:
        """How often all decisions came to what, by a rule."""
        return sum(self.states.get(rule, {}).values(), Counter())

    def _add_states(self, states: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        for rule, decisions in states.items():
            for id, found in decisions.items():
                self.states.setdefault(rule, {}).setdefault(id, Counter()).update(found)


OURS, UNADJUSTED, ONCE = "ours", "95 % at each look", "95 % at one look"


def simulate(
    populations: Sequence[Population],
    amounts: Mapping[str, Sequence[int]],
    *,
    runs: Iterable[int],
    rule: Rule | None = None,
) -> Counted:
    """Draw and decide runs.

    Args:
        populations: every decision of a run.
        amounts: how many units each look sees, by kind of evaluation.
        runs: their numbers, each the seed of what is drawn.
        rule: how a run decides; that of the package by default.
    """
    rule = rule or Rule(len(populations))
    counted = Counted(decisions=len(populations))
    for run in runs:
        found = _run(populations, amounts, rule, run)
        _count(counted, found, _promoted(found, rule), amounts)
    return counted


def _run(
    populations: Sequence[Population],
    amounts: Mapping[str, Sequence[int]],
    rule: Rule,
    seed: int,
) -> list[Judged]:
    rng = np.random.default_rng(seed)
    drawn = {
        (evaluation, units): rng.integers(0, units, max(amounts[evaluation.partition(":")[0]]))
        for evaluation, units in sorted({_sample(each) for each in populations})
    }
    cells: dict[tuple[str, int], list[Population]] = {}
    for each in populations:
        cells.setdefault((each.cell, each.units), []).append(each)
    found = []
    for cell in cells.values():
        sample = _sample(cell[0])
        name = "{} of {}".format(*sample)
        found += judge(cell, drawn[sample], amounts[cell[0].kind], rule, name)
    return found


def _sample(population: Population) -> tuple[str, int]:
    """Decisions with the same are drawn together."""
    return population.evaluation, population.units


def _promoted(found: Sequence[Judged], rule: Rule) -> set[str]:
    """Suspect decisions that hold for the run, by the package's step-down over all of them."""
    suspects = {each.population.id: each for each in found if each.state is State.SUSPECT}
    # By itself a decision is never less likely than in the company of others.
    if not any(each.weighed.p <= rule.error for each in suspects.values()):
        return set()
    weighed = [each.weighed for each in found if not each.equal]
    p = adjusted(weighed, seed=0, resamples=rule.resamples)
    return {id for id in suspects if p[id] <= rule.error}


def _count(
    counted: Counted,
    found: Sequence[Judged],
    promoted: set[str],
    amounts: Mapping[str, Sequence[int]],
) -> None:
    finals = {
        OURS: [State.RED if each.population.id in promoted else each.state for each in found],
        UNADJUSTED: [each.unadjusted for each in found],
        ONCE: [each.once for each in found],
    }
    counted.runs += 1
    for name, states in finals.items():
        of_rule = counted.states.setdefault(name, {})
        for each, state in zip(found, states, strict=True):
            of_rule.setdefault(each.population.id, Counter())[state.value] += 1
        counted.red[name] += State.RED in states
    counted.marked += any(state in (State.RED, State.SUSPECT) for state in finals[OURS])
    others: set[str] = set()
    for each in found:
        if each.population.now.size:
            first = each.seen[: amounts[each.population.kind][0]]
            others.update(called_worse(each.population, first))
    counted.red.update(others)
