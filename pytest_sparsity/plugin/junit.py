"""JUnit properties of what a test measured and decided.

Unlike the sinks these are attached where the test runs: pytest copies the properties of an item
into the reports of its test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.claims.finding import Finding
    from pytest_sparsity.core.decision import Decision
    from pytest_sparsity.sweep.verdict import Verdict

Properties = list[tuple[str, object]]


def of_verdicts(verdicts: Iterable[Verdict]) -> Properties:
    """Value, change against dense and verdict of each metric."""
    found: Properties = []
    for verdict in verdicts:
        comparison = verdict.comparison
        found.append((comparison.metric, comparison.value.estimate))
        if (change := comparison.change) is not None:
            found.append((f"{comparison.metric} change", f"{change:.6g}"))
        found.append((f"{comparison.metric} verdict", verdict.outcome.value))
    return found


def of_finding(sentence: str, finding: Finding) -> Properties:
    """The claim's sentence, the verdict on it and every effect behind it."""
    found: Properties = [
        ("claim", sentence),
        ("verdict", finding.outcome.value),
        ("why", finding.why),
    ]
    for effect in finding.effects:
        figures = f"{effect.interval:.6g} {effect.unit} (n = {effect.interval.n})"
        found.append((effect.label, figures))
    return found


def of_decision(
    decision: Decision, *, reason: str | None = None, ratio: float | None = None
) -> Properties:
    """A decision of the gate, and the reason or the ratio of times behind it."""
    found: Properties = [("gate", decision.value)]
    if reason is not None:
        found.append(("gate reason", reason))
    if ratio is not None:
        found.append(("gate ratio", ratio))
    return found
