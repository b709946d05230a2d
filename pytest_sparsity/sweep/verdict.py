"""The verdict over one metric: pass, fail or inconclusive; never a bare boolean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.comparison import Comparison


class Outcome(str, Enum):
    """What the data say about a budget.

    ``REFERENCE`` is of the dense model, with which others are compared.  ``REFUSED`` is of a task
    at which the dense model is not better than guessing, so that a sparse one has nothing to lose.
    """

    PASS = "pass"
    FAIL = "fail"
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
    """

    comparison: Comparison
    outcome: Outcome
    budget: Budget | None = None

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
        return f"{text}: {self.outcome.value}, budget {budget.limit_text} ({budget.origin})"


def judge(comparison: Comparison, budget: Budget | None) -> Verdict:
    """Hold a metric against its budget by its whole interval.

    Fail when the whole interval is on the wrong side of the limit, pass when it is on the
    right side, otherwise inconclusive.  The dense model has no budget, but where its answers
    are not better than guesses, the task is refused for it and for all others.
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
    return Verdict(comparison, held_to(budget.limit, interval), budget)
