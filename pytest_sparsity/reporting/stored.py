"""Types of what the files of a report folder hold; readers and hooks are given these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics import Interval


@dataclass(frozen=True)
class Metric:
    """One metric of one configuration, against dense, and its verdict.

    Attributes:
        configuration: id, as ``smollm2-135m-teal-0.50``.
        evaluation: what was evaluated, as ``perplexity:austen``.
        name: of the metric, as ``kl:austen``.
        value: with its interval; NaN where it has none.
        change: against dense on the same data; None of the dense model itself.
        outcome: the verdict, as ``pass``, ``fail`` or ``inconclusive``.
        p_value: of McNemar's test, where there is one.
        budget: the most damage, or least value, that passes; None if there is none.
        dense: the metric of the dense model on the same data; None of the dense model itself,
            where it has none, and in summaries that do not tell.
        look: at which the verdict was spoken, from 1; ``value`` knows how many were planned.
        p_run: its p among all decisions of the run; None where there is no budget, and in
            summaries of earlier versions.
    """

    configuration: str
    evaluation: str
    name: str
    value: Interval
    change: Interval | None
    outcome: str
    p_value: float | None
    budget: float | None
    dense: float | None = None
    look: int = 1
    p_run: float | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Metric:
        """A metric of summary.json.

        Raises:
            KeyError, TypeError: it is none.
        """
        budget, change = content["budget"], content["change"]
        return cls(
            configuration=content["configuration"],
            evaluation=content["evaluation"],
            name=content["metric"],
            value=Interval.from_json(content["value"]),
            change=None if change is None else Interval.from_json(change),
            outcome=content["outcome"],
            p_value=content["p_value"],
            budget=None if budget is None else budget.get("max", budget.get("min")),
            dense=content.get("dense"),
            look=content.get("look", 1),
            p_run=content.get("p_run"),
        )


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided about one cell or kernel.

    Attributes:
        kind: ``accuracy`` or ``speed``.
        id: of the cell's configuration and metric, or of the kernel.
        decision: what it is.
        reason: one sentence.
        figures: behind it, by name.
        source: ``FILE:LINE`` of a kernel, where it is known.
    """

    kind: str
    id: str
    decision: Decision
    reason: str
    figures: Mapping[str, Any]
    source: str | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> GateDecision:
        """A decision of gate.json, which is what tests tell of theirs.

        Raises:
            KeyError, ValueError: it is none.
        """
        return cls(
            kind=content["kind"],
            id=content["id"],
            decision=Decision(content["decision"]),
            reason=content["reason"],
            figures=content["figures"],
            source=content.get("source"),
        )


@dataclass(frozen=True)
class Gate:
    """What a gate decided.

    Attributes:
        mode: ``fail`` or ``warn``.
        against: the baseline's folder, the revision or the kernel.
        decisions: worst first.
        without_baseline: ids that were measured and have nothing to be compared with.
    """

    mode: str
    against: str
    decisions: tuple[GateDecision, ...]
    without_baseline: tuple[str, ...]


@dataclass(frozen=True)
class StoredCheck:
    """The result of one check of one kernel.

    Attributes:
        kernel: its id.
        check: name of the check.
        status: ``passed``, ``failed`` or ``skipped``.
        message: what is wrong, or why it was skipped.
        case: the smallest case known to fail, as it prints.
        examples: cases that were run.
        tolerance: the largest share of the error bound that a result took.
        seconds: that it took; 0 where an earlier version wrote none.
    """

    kernel: str
    check: str
    status: str
    message: str
    case: str | None
    examples: int
    tolerance: float
    seconds: float = 0.0

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> StoredCheck:
        """A check of kernels.jsonl, which is what tests tell of theirs.

        Raises:
            KeyError: it is none.
        """
        names = [name for name in cls.__dataclass_fields__ if name != "seconds" or name in content]
        return cls(**{name: content[name] for name in names})
