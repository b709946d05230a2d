"""The accuracy gate: a cell's record against the record of the same cell in a stored run.

Both runs scored the same documents and items, so the comparison is paired, and what changed
between the runs (a kernel, a method's parameters, a library, a dtype) is all that it sees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics import Interval, mcnemar, paired_mean, paired_proportion
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.comparison import perplexity_change
from pytest_sparsity.sweep.record import Record, is_right

#: Relative increase of perplexity that is no regression: above what another rounding does to a
#: dense model, and half of the smallest loss that is worth a failing test, 1 %.  Measured on
#: smollm2-135m with 32 documents, float32 against bfloat16 moves it by 0.04 % [-0.10, +0.49] when
#: dense and by 0.4 % [-0.1, +1.1] at level 0.25.  At level 0.5 masks flip with the last bit, each
#: document goes its own way (-0.8 % [-2.9, +1.1]), and so few documents leave 1 % undecided.
PERPLEXITY_TOLERANCE = 0.005

#: Drop of accuracy, as a share, that is no regression: one item in a hundred, the smallest step
#: that the default number of items has; an item whose choices are tied turns with the last bit.
#: Unless all scores are equal to the last bit, a hundred items cannot show that no more was lost:
#: with not one answer changed the interval still reaches 2 to 3 points, which is inconclusive.
#: The same share of greedy tokens may leave the dense model's path.
ACCURACY_TOLERANCE = 0.01

#: Nats per token by which a model may be further from the dense one on reasoning: as much as it
#: takes to raise perplexity by 1 %.
DIVERGENCE_TOLERANCE = 0.01

#: What must be equal in the keys of two records, and what it means when it is not.  Everything
#: else may differ, because it is what the gate is there to judge: kernels and other code, method
#: parameters, calibration, vectors, dtype, versions and the machine.
_MUST_AGREE = {
    "weights": "the models' weights differ",
    "data": "the evaluation data differ",
    "prefill": "the prefill policies differ",
    "seed": "the seeds differ",
}


@dataclass(frozen=True)
class AccuracyComparison:
    """One cell held against its stored record.

    Attributes:
        cell: which one.
        decision: what the data say.
        reason: the sentence that says why, with the figures.
        change: the damage since the stored run, positive when worse; None where nothing was
            compared or all is equal to the last bit.
        p_value: of McNemar's exact test, for right and wrong.
    """

    cell: Cell
    decision: Decision
    reason: str
    change: Interval | None = None
    p_value: float | None = None

    @property
    def message(self) -> str:
        """One line: the cell, the decision and the reason."""
        return f"{self.cell.id}: {self.decision.value}, {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, for reports that cross processes."""
        figures: dict[str, Any] = {}
        if self.change is not None:
            change = self.change
            figures = {
                "change": change.estimate,
                "low": change.low,
                "high": change.high,
                "n": change.n,
            }
        if self.p_value is not None:
            figures["p_value"] = self.p_value
        return {
            "kind": "accuracy",
            "id": self.cell.id,
            "decision": self.decision.value,
            "reason": self.reason,
            "figures": figures,
        }


def judge_change(now: Record, before: Record, *, seed: int) -> AccuracyComparison:
    """Compare a cell with its stored record, on the documents or items that both have.

    Args:
        now: of this run.
        before: of the stored run, the same cell.
        seed: of the bootstrap.

    Raises:
        ValueError: the records are of different cells.
    """
    if now.cell != before.cell:
        raise ValueError(f"records of two cells: {now.cell.id} and {before.cell.id}")
    if difference := _difference(now.key, before.key):
        return AccuracyComparison(now.cell, Decision.NOT_COMPARABLE, difference)
    pairs = _pairs(now, before)
    if not pairs:
        reason = "the runs have no document or item in common"
        return AccuracyComparison(now.cell, Decision.NOT_COMPARABLE, reason)
    if all(a == b for a, b in pairs):
        return AccuracyComparison(
            now.cell, Decision.OK, f"equal to the last bit ({_count(now, len(pairs))})"
        )
    change, tolerance, text, p_value = _change(now, before, pairs, seed)
    decision = decide(change, tolerance)
    return AccuracyComparison(now.cell, decision, text, change, p_value)


def decide(change: Interval, tolerance: float) -> Decision:
    """The decision on a change by its whole interval.

    Regressed when all of it is beyond ``tolerance``, improved when all of it is beyond on the
    other side, ok when no more than ``tolerance`` can have been lost, otherwise inconclusive.
    """
    if change.low > tolerance:
        return Decision.REGRESSED
    if change.high < -tolerance:
        return Decision.IMPROVED
    return Decision.OK if change.high <= tolerance else Decision.INCONCLUSIVE


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Why two records cannot be compared; empty if they can."""
    for name, meaning in _MUST_AGREE.items():
        ours, theirs = _comparable(now.get(name)), _comparable(before.get(name))
        if ours != theirs:
            return f"{meaning}: {_shown(ours)} now, {_shown(theirs)} in the baseline"
    return ""


def _comparable(value: object) -> object:
    """The key without the number of items per forward pass, which changes rounding only."""
    if isinstance(value, Mapping):
        return {name: part for name, part in value.items() if name != "draw"}
    return value


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pairs(now: Record, before: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What both records hold, by id, as JSON has it: tuples and lists are the same there."""
    stored = {unit["id"]: unit for unit in before.units}
    fresh = json.loads(json.dumps(now.units))
    return [(unit, stored[unit["id"]]) for unit in fresh if unit["id"] in stored]


def _change(
    now: Record, before: Record, pairs: list[tuple[dict[str, Any], dict[str, Any]]], seed: int
) -> tuple[Interval, float, str, float | None]:
    """The damage, how much of it is tolerated, the sentence about both, and McNemar's p."""
    if now.cell.kind == PERPLEXITY:
        change = perplexity_change(now, before, seed=seed)
        text = f"perplexity {_interval(change)} % over {_count(now, change.n)}"
        return change, PERPLEXITY_TOLERANCE, f"{text}, {_tolerated(PERPLEXITY_TOLERANCE)} %", None
    if now.cell.kind == DIVERGENCE:
        tokens = [float(a["tokens"]) for a, _ in pairs]
        further = [a["reasoning"]["kl"] - b["reasoning"]["kl"] for a, b in pairs]
        change = paired_mean(further, tokens, seed=seed)
        text = (
            f"divergence on reasoning {change:+.4f} nats per token over "
            f"{_count(now, change.n)}, tolerated {DIVERGENCE_TOLERANCE:g} nats"
        )
        return change, DIVERGENCE_TOLERANCE, text, None
    if now.cell.kind == GENERATION:
        change = paired_mean([_off_path(a) - _off_path(b) for a, b in pairs], seed=seed)
        text = f"greedy tokens off the dense path {_interval(change)} points"
        p_value = None
    else:
        was = [is_right(before.measured, b) for _, b in pairs]
        is_now = [is_right(before.measured, a) for a, _ in pairs]
        change, p_value = paired_proportion(was, is_now), mcnemar(was, is_now)
        lost = sum(b and not a for b, a in zip(was, is_now, strict=True))
        won = sum(a and not b for b, a in zip(was, is_now, strict=True))
        text = (
            f"accuracy dropped by {_interval(change)} points, {lost} items lost and {won} won, "
            f"McNemar p = {p_value:.2g}"
        )
    text += f" over {_count(now, change.n)}, {_tolerated(ACCURACY_TOLERANCE)} points"
    return change, ACCURACY_TOLERANCE, text, p_value


def _off_path(prompt: Mapping[str, Any]) -> float:
    step = prompt["first_divergence"]
    return 0.0 if step is None else 1 - float(step) / float(prompt["tokens"])


def _interval(change: Interval) -> str:
    return f"{100 * change.estimate:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def _tolerated(tolerance: float) -> str:
    return f"tolerated {100 * tolerance:g}"


def _count(record: Record, n: int) -> str:
    name = {PERPLEXITY: "documents", GENERATION: "prompts"}.get(record.cell.kind, "items")
    return f"{n} {name}"
