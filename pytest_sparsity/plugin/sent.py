"""What a test sends to the process that owns the terminal: plain data, also through pytest-xdist.

A fixture leaves data on its item; they become attributes of the report of the test, which
pytest-xdist carries to the controlling process, where the reporter reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

#: The line of a finished cell: ``line``, and ``reused`` if its record was there already.
MEASURED = pytest.StashKey[dict[str, Any]]()

#: The results of kernel checks.
CHECKED = pytest.StashKey[list[dict[str, Any]]]()

#: The finding about a claim: ``finding`` and ``seconds``.
FOUND = pytest.StashKey[dict[str, Any]]()

#: Ids of the records that the test measured or reused.
RECORDED = pytest.StashKey[list[str]]()

#: What the gate decided: ``kind`` (accuracy or speed), ``id``, ``decision``, ``reason``,
#: ``figures`` and, where it is known, ``source`` ("FILE:LINE").
GATED = pytest.StashKey[list[dict[str, Any]]]()

#: What was decided, with the evidence that counts for the run; see :func:`.deciding.tell`.
DECIDED = pytest.StashKey[list[dict[str, Any]]]()

#: What was timed, call by call: ``measured`` (the candidate first, see ``speed.gate.result``),
#: ``store`` (whether it belongs into the baseline) and ``registered`` (ids of all kernels).
TIMED = pytest.StashKey[list[dict[str, Any]]]()

#: The attribute of a report that the run was settled by, see :mod:`.settling`.
SETTLED = "sparsity_settled"

#: The attribute of the report that carries each of them.
_ATTRIBUTES: Mapping[pytest.StashKey[Any], str] = {
    MEASURED: "sparsity",
    CHECKED: "sparsity_checks",
    DECIDED: "sparsity_decided",
    FOUND: "sparsity_finding",
    GATED: "sparsity_gate",
    RECORDED: "sparsity_records",
    TIMED: "sparsity_timed",
}


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Move what fixtures left on an item to the report of its test."""
    for key, name in _ATTRIBUTES.items():
        if found := item.stash.get(key, None):
            setattr(report, name, found)
            del item.stash[key]  # the test may be run again


@dataclass(frozen=True)
class Sent:
    """One report, and what the test sent with it; described at the keys above.

    Attributes:
        report: of pytest, for one phase of a test.
        cell: see :data:`MEASURED`; None if there is none.
        checks: see :data:`CHECKED`.
        finding: see :data:`FOUND`; None if there is none.
        decisions: see :data:`GATED`.
        decided: see :data:`DECIDED`.
        records: see :data:`RECORDED`.
        timed: see :data:`TIMED`.
    """

    report: pytest.TestReport
    cell: Mapping[str, Any] | None
    checks: Sequence[Mapping[str, Any]]
    finding: Mapping[str, Any] | None
    decisions: Sequence[Mapping[str, Any]]
    decided: Sequence[Mapping[str, Any]]
    records: Sequence[str]
    timed: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, report: Any) -> Sent:
        """What came with a report."""
        return cls(
            report,
            cell=getattr(report, _ATTRIBUTES[MEASURED], None),
            checks=getattr(report, _ATTRIBUTES[CHECKED], ()),
            finding=getattr(report, _ATTRIBUTES[FOUND], None),
            decisions=getattr(report, _ATTRIBUTES[GATED], ()),
            decided=getattr(report, _ATTRIBUTES[DECIDED], ()),
            records=getattr(report, _ATTRIBUTES[RECORDED], ()),
            timed=getattr(report, _ATTRIBUTES[TIMED], ()),
        )

    @property
    def settled(self) -> bool:
        """Whether it says of a test, when all are done, that its suspect holds for the run."""
        return hasattr(self.report, SETTLED)

    @property
    def anything(self) -> bool:
        """Whether the test used anything of ours."""
        return any(hasattr(self.report, name) for name in _ATTRIBUTES.values())
