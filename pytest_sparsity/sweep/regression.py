"""The accuracy gate: a cell's record against the record of the same cell in a stored run.

Both runs scored the same documents and items, so the comparison is paired, and what changed
between the runs (a kernel, a method's parameters, a library, a dtype, and on request the weights)
is all that it sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics import Influence, Interval
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.changes import (
    FROM_DENSE,
    Change,
    change_of,
    change_of_damage,
    counted,
    figure_of,
)
from pytest_sparsity.sweep.comparable import common_units, difference, other_text, same_weights
from pytest_sparsity.sweep.evidence import beyond
from pytest_sparsity.sweep.influences import influence_of_change, influence_of_damage
from pytest_sparsity.sweep.metric import DIFFERENCE
from pytest_sparsity.sweep.record import Record

#: What a comparison is of, beside the cell itself.
DAMAGE = "damage"


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
        part: ``damage`` where it is how much more the sparse model loses of its dense one than
            it did; empty where the cell itself is compared.
        before: the figure itself in the stored run: perplexity, share right, share off the path,
            nats per token, or the damage; None where nothing was compared.
        now: the same in this run.
        evidence: that it is worse, in units shared with other decisions of the run; None where
            nothing was compared.
    """

    cell: Cell
    decision: Decision
    reason: str
    change: Interval | None = None
    p_value: float | None = None
    part: str = ""
    before: float | None = None
    now: float | None = None
    evidence: Evidence | None = None

    def at(self, level: float) -> AccuracyComparison:
        """The same as one of many: regressed is only what has a p of at most ``level``."""
        if self.decision is not Decision.REGRESSED or self.evidence is None:
            return self
        if self.evidence.p <= level:
            return self
        reason = f"{self.reason}; p = {self.evidence.p:.2g} alone"
        return replace(self, decision=Decision.SUSPECT, reason=reason)

    @property
    def id(self) -> str:
        """Of the cell, and the part of it."""
        return f"{self.cell.id}, {self.part}" if self.part else self.cell.id

    @property
    def message(self) -> str:
        """One line: the cell, the decision and the reason."""
        return f"{self.id}: {self.decision.value}, {self.reason}"

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
        sides = {"before": self.before, "now": self.now}
        figures |= {name: value for name, value in sides.items() if value is not None}
        return {
            "kind": "accuracy",
            "id": self.id,
            "decision": self.decision.value,
            "reason": self.reason,
            "figures": figures,
        }


def judge_change(
    now: Record, before: Record, *, seed: int, across: bool = False
) -> AccuracyComparison:
    """Compare a cell with its stored record, on the documents or items that both have.

    Args:
        now: of this run.
        before: of the stored run, the same cell.
        seed: of the bootstrap.
        across: whether it may be of other weights: a changed model.

    Raises:
        ValueError: the records are of different cells.
    """
    if now.cell != before.cell:
        raise ValueError(f"records of two cells: {now.cell.id} and {before.cell.id}")
    if reason := difference(now, before, across=across):
        return AccuracyComparison(now.cell, Decision.NOT_COMPARABLE, reason)
    pairs = common_units(now, before)
    if not pairs:
        reason = "the runs have no document or item in common"
        return AccuracyComparison(now.cell, Decision.NOT_COMPARABLE, reason)
    if reason := other_text(now.cell.kind, pairs):
        return AccuracyComparison(now.cell, Decision.NOT_COMPARABLE, reason)
    if all(a == b for a, b in pairs):
        equal = f"equal to the last bit ({counted(now, len(pairs))})"
        value = figure_of(now, [a for a, _ in pairs])
        same = Evidence(f"gate {now.cell.id}", 1.0)
        return AccuracyComparison(
            now.cell, Decision.OK, equal, before=value, now=value, evidence=same
        )
    if now.cell.configuration.is_reference and now.cell.kind in FROM_DENSE:
        reason = "the dense model is what its own sparse ones are held against"
        return AccuracyComparison(now.cell, Decision.OK, reason)
    return _decided(now.cell, change_of(now, before, pairs, seed), influence_of_change(now, before))


def judge_damage(
    now: Record, dense_now: Record, before: Record, dense_before: Record, *, seed: int
) -> AccuracyComparison | None:
    """Whether a sparse model loses more of its dense one than it did before the weights changed.

    Paired by document or item over all four records: the difference of two differences.

    Args:
        now: of this run, sparse.
        dense_now: the same evaluation of this run's dense model.
        before: of the stored run, the same cell as ``now``.
        dense_before: the same evaluation of the stored run's dense model.
        seed: of the bootstrap.

    Returns:
        None where the cell is of the dense model, where the weights are the same, or where the
        cell is a damage already (greedy paths and divergence are measured from the dense model,
        and :func:`judge_change` compares them).

    Raises:
        ValueError: the records are of different cells.
    """
    cell = now.cell
    if cell != before.cell or dense_now.cell != dense_before.cell or dense_now.cell != cell.dense:
        raise ValueError(f"records of several cells: {cell.id}, {before.cell.id}")
    if cell.configuration.is_reference or cell.kind in FROM_DENSE:
        return None
    if same_weights(now, before) and same_weights(dense_now, dense_before):
        return None

    def refused(reason: str) -> AccuracyComparison:
        return AccuracyComparison(cell, Decision.NOT_COMPARABLE, reason, part=DAMAGE)

    for pair in ((now, before), (dense_now, dense_before)):
        reason = difference(*pair, across=True) or other_text(cell.kind, common_units(*pair))
        if reason:
            return refused(reason)
    for sparse, dense in ((now, dense_now), (before, dense_before)):
        if not same_weights(sparse, dense) and cell.configuration.weights == LOADED:
            return refused("its dense record is of other weights; measure both in one run")
    found = change_of_damage(now, dense_now, before, dense_before, seed)
    if found is None:
        return refused("the four records have no document or item in common")
    of_units = influence_of_damage(now, dense_now, before, dense_before)
    return _decided(cell, found, of_units, DAMAGE)


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


def _decided(cell: Cell, found: Change, of_units: Influence, part: str = "") -> AccuracyComparison:
    right_or_wrong = not part and cell.kind not in (PERPLEXITY, *FROM_DENSE)
    decided = AccuracyComparison(
        cell,
        decide(found.interval, found.tolerance),
        found.text,
        found.interval,
        found.p_value,
        part,
        found.before,
        found.now,
    )
    id = f"gate {decided.id}"
    bounds = DIFFERENCE if cell.kind == GENERATION and not part else None
    against = beyond(
        id, cell.subject, of_units, found.tolerance, counted=right_or_wrong, bounds=bounds
    )
    return replace(decided, evidence=against)
