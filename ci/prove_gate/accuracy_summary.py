"""What the measurements of ``accuracy`` come to: pure functions of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

#: Harmless changes, by what was done and the level of TEAL in both models.
_HARMLESS = {
    "order": "neurons of every MLP in another order",
    "float32": "float32 instead of bfloat16",
}


@dataclass(frozen=True)
class Identical:
    """A cell measured by two fresh processes.

    Attributes:
        cell: which one.
        evaluation: ``perplexity``, ``task`` or ``generation``.
        units: documents or items that both scored.
        size: units per decision.
        decisions: how many.
        equal: of them ok because all is equal to the last bit.
        alarms: of them regressed.
    """

    cell: str
    evaluation: str
    units: int
    size: int
    decisions: int
    equal: int
    alarms: int


@dataclass(frozen=True)
class Rates:
    """How often a change of the model was decided to be what.

    Attributes:
        what: which changes.
        loss: of perplexity that they were sized for; 0 of harmless ones.
        documents: per decision.
        true: smallest and largest loss of a change, each over all documents of a corpus.
        decisions: how many.
        ours: the gate's decisions.
        rivals: how many alarms each other rule raised.
    """

    what: str
    loss: float
    documents: int
    true: tuple[float, float]
    decisions: int
    ours: Mapping[str, int]
    rivals: Mapping[str, int]

    def share(self, decision: str) -> float:
        """Share of the gate's decisions that were ``decision``."""
        return self.ours.get(decision, 0) / self.decisions

    def alarms(self, rival: str) -> float:
        """Share of draws at which another rule raised an alarm."""
        return self.rivals.get(rival, 0) / self.decisions


@dataclass(frozen=True)
class Summary:
    """Everything that was measured.

    Attributes:
        identical: by cell.
        draws: decisions on disjoint draws of the default number of documents.
        drawn: decisions on documents drawn with replacement, the loss made exact, for several
            numbers of documents.
        needed: loss to the smallest of these numbers, interpolated, of which 90 % are regressed;
            None where not even the largest is enough.
    """

    identical: Sequence[Identical]
    draws: Sequence[Rates]
    drawn: Sequence[Rates]
    needed: Mapping[float, int | None]


def summary(rows: Sequence[Row]) -> Summary:
    """Add up what was decided, by change, loss and number of documents."""
    drawn = _rates(rows, "power")
    losses = sorted({rates.loss for rates in drawn if rates.loss})
    return Summary(
        identical=[_identical(row) for row in rows if row["kind"] == "identical"],
        draws=_rates(rows, "draws"),
        drawn=drawn,
        needed={
            loss: documents_for(
                0.9, {r.documents: r.share("regressed") for r in drawn if r.loss == loss}
            )
            for loss in losses
        },
    )


def documents_for(power: float, shares: Mapping[int, float]) -> int | None:
    """How many documents catch a loss so often, by numbers of documents and what they caught.

    Linear between the first number that does and the one before it, from no documents on; rounded
    up.  None if no number does.
    """
    before, caught = 0, 0.0
    for documents, share in sorted(shares.items()):
        if share >= power:
            exactly = before + (documents - before) * (power - caught) / (share - caught)
            return -int(-exactly // 1)
        before, caught = documents, share
    return None


def _identical(row: Row) -> Identical:
    return Identical(
        cell=row["cell"],
        evaluation=row["evaluation"],
        units=row["units"],
        size=row["size"],
        decisions=sum(row["decisions"].values()),
        equal=row["equal"],
        alarms=row["decisions"].get("regressed", 0),
    )


def _rates(rows: Sequence[Row], kind: str) -> list[Rates]:
    groups: dict[tuple[float, str, int], list[Row]] = {}
    for row in rows:
        if row["kind"] == kind:
            groups.setdefault((row["loss"], _what(row), row["documents"]), []).append(row)
    return [
        Rates(
            what=what,
            loss=loss,
            documents=documents,
            true=(min(row["true"] for row in group), max(row["true"] for row in group)),
            decisions=sum(row["decisions"] for row in group),
            ours=_added(row["ours"] for row in group),
            rivals=_added(row["rivals"] for row in group),
        )
        for (loss, what, documents), group in sorted(groups.items())
    ]


def _what(row: Row) -> str:
    if row["loss"]:
        return f"{100 * row['loss']:g} % loss"
    level = f", TEAL {row['level']:.2f}" if row["level"] else ", dense"
    return _HARMLESS[row["change"]] + level


def _added(counts: Any) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
