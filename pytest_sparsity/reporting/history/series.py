"""From runs to series: one per machine, profile and number, with the runs at which it changed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_sparsity.reporting.history.changes import ChangePoint, change_points
from pytest_sparsity.reporting.history.entries import Entry
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, TASK_KINDS

#: Metrics of which more is worse; of all others, less is.
_COSTS = ("seconds", "perplexity", "kl", "answer_nll", "chain_nll")
#: The end of a cell's id; what is before it may hold a colon as well, as in ``wanda-2:4``.
_EVALUATION = re.compile(rf"-(?:(?:{'|'.join((PERPLEXITY, *TASK_KINDS))}):.*|{GENERATION})$")


@dataclass(frozen=True)
class Series:
    """One number over the runs of one machine and profile.

    Attributes:
        target: the machine's fingerprint.
        device: the machine's own name.
        profile: how much the runs measured.
        name: ``seconds`` or a metric, and of what.
        runs: the runs that have it, in order.
        values: one per run.
        changes: where it went to another level.
    """

    target: str
    device: str
    profile: str
    name: str
    runs: tuple[Entry, ...]
    values: tuple[float, ...]
    changes: tuple[ChangePoint, ...]

    def worse(self, change: ChangePoint) -> bool:
        """Whether a change is for the worse."""
        return (change.after > change.before) == self.name.startswith(_COSTS)


def all_series(entries: Iterable[Entry], only: str = "") -> list[Series]:
    """Every series whose name holds ``only``, by machine, profile and name."""
    found: dict[tuple[str, str, str], list[tuple[Entry, float]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.when):
        for name, value in _numbers(entry):
            if only in name:
                found.setdefault((entry.target, entry.profile, name), []).append((entry, value))
    return [
        Series(
            target,
            points[-1][0].device,
            profile,
            name,
            tuple(entry for entry, _ in points),
            tuple(value for _, value in points),
            tuple(change_points([value for _, value in points])),
        )
        for (target, profile, name), points in sorted(found.items())
    ]


def _numbers(entry: Entry) -> Iterable[tuple[str, float]]:
    for id, seconds in entry.seconds.items():
        yield f"seconds {id}", seconds
    for cell, metrics in entry.metrics.items():
        configuration = _EVALUATION.sub("", cell)  # the metric names it
        for metric, value in metrics.items():
            yield f"{metric} {configuration}", value
