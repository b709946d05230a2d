"""The verdict over one metric: pass, fail, suspect or inconclusive; never a bare boolean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.comparison import Comparison


class Outcome(str, Enum):
    """What the data say about a budget.

    ``SUSPECT`` is beyond its budget by its own interval, as one of so many verdicts may be by
    chance; it does not hold for the run.  ``REFERENCE`` is of the dense model, with which others
    are compared.  ``REFUSED`` is of a task at which the dense model is not better than guessing,
    so that a sparse one has nothing to lose.
    """

    PASS = "pass"
    FAIL = "fail"
    SUSPECT = "suspect"
    INCONCLUSIVE = "inconclusive"
    NO_BUDGET = "no budget"
    REFUSED = "refused"
    REFERENCE = "reference"

    @classmethod
    def at_least(cls, limit: float, interval: Interval) -> Outcome:
        """What an interval says, as a whole, of a figure that must not be below ``limit``."""
        if interval.low >= limit:
            return cls.PASS
        return cls.FAIL if interval.high < limit else cls.INCONCLUSIVE

    @classmethod
    def at_most(cls, limit: float, interval: Interval) -> Outcome:
        """What an interval says, as a whole, of a figure that must not be above ``limit``."""
        if interval.high <= limit:
            return cls.PASS
        return cls.FAIL if interval.low > limit else cls.INCONCLUSIVE


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell held against its budget.

    Attributes:
        comparison: the metric.
        outcome: what the data say.
        budget: the budget; None where there is none.
        look: at which it was spoken, from 1; ``comparison`` knows how many were planned.
        evidence: against it, in units shared with other verdicts of the run; None where there is
            no budget.
        p_run: the p of this verdict among all of the run (:func:`.family.adjusted`); None until
            the run is over, and where there is no evidence.
    """

    comparison: Comparison
    outcome: Outcome
    budget: Budget | None = None
    look: int = 1
    evidence: Evidence | None = None
    p_run: float | None = None

    def for_the_run(self, p_run: float, error: float) -> Verdict:
        """The verdict when the run is over: what is beyond its budget fails if it holds for it."""
        outcome = self.outcome
        if outcome in (Outcome.FAIL, Outcome.SUSPECT):
            outcome = Outcome.FAIL if p_run <= error else Outcome.SUSPECT
        return replace(self, outcome=outcome, p_run=p_run)

    @property
    def message(self) -> str:
        """One line with the numbers: estimate, interval, n, budget and its origin."""
        comparison, budget = self.comparison, self.budget
        interval = comparison.change if comparison.change is not None else comparison.value
        text = (
            f"{comparison.cell.configuration.id}: {comparison.metric} "
            f"{interval:+.4f} (n = {interval.n}, smallest visible effect {interval.detectable:.4f})"
        )
        if comparison.p_value is not None:
            text += f", McNemar p = {comparison.p_value:.2g}"
        if comparison.refused:
            return f"{text}: {self.outcome.value} as evidence, {comparison.refused}"
        if comparison.change is None and comparison.chance is not None:
            return f"{text}: {self.outcome.value}, chance is {comparison.chance:.4f}"
        if budget is None:
            return f"{text}: {self.outcome.value}"
        text += f": {self.outcome.value}, budget {budget.limit_text} ({budget.origin})"
        if self.p_run is not None and self.outcome in (Outcome.FAIL, Outcome.SUSPECT):
            text += f", p = {self.p_run:.2g} for the run"
        elif self.evidence is not None and self.outcome is Outcome.SUSPECT:
            text += f", p = {self.evidence.p:.2g} alone"
        return text


def judge(
    comparison: Comparison,
    budget: Budget | None,
    evidence: Evidence | None = None,
    level: float = 1.0,
) -> Verdict:
    """Hold a metric against its budget by its whole interval.

    Fail when the whole interval is on the wrong side of the limit, pass when it is on the
    right side, otherwise inconclusive.  The dense model has no budget, but where its answers
    are not better than guesses, the task is refused for it and for all others.

    Args:
        comparison: the metric.
        budget: of the metric; None for none.
        evidence: against it.
        level: the largest p at which a verdict fails whatever the others of its run say; what is
            beyond its budget with a larger one is suspect.
    """
    if comparison.refused:
        return Verdict(comparison, Outcome.REFUSED)
    if comparison.change is None and comparison.chance is not None:
        return Verdict(comparison, Outcome.PASS)
    if comparison.cell.configuration.is_reference:
        return Verdict(comparison, Outcome.REFERENCE)
    if budget is None:
        return Verdict(comparison, Outcome.NO_BUDGET)
    interval = comparison.change if comparison.change is not None else comparison.value
    held_to = Outcome.at_least if budget.is_minimum else Outcome.at_most
    outcome = held_to(budget.limit, interval)
    if outcome is Outcome.FAIL and evidence is not None and evidence.p > level:
        outcome = Outcome.SUSPECT
    return Verdict(comparison, outcome, budget, evidence=evidence)
