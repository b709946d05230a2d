"""The verdict over one metric: pass, fail or inconclusive; never a bare boolean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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
            f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] "
            f"(n = {interval.n}, smallest visible effect {interval.detectable:.4f})"
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
    low, high = interval.low, interval.high
    if budget.is_minimum:
        good, bad = low >= budget.limit, high < budget.limit
    else:
        good, bad = high <= budget.limit, low > budget.limit
    outcome = Outcome.PASS if good else Outcome.FAIL if bad else Outcome.INCONCLUSIVE
    return Verdict(comparison, outcome, budget)
