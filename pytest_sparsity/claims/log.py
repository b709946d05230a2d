"""What was found about claims: a line each as they come, and a table at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.finding import ClaimVerdict, Finding
from pytest_sparsity.reporting.live import WIDTH, progress_line, shortened

_AROUND = len("[99/99] ") + len("  eta 1:02:33")  # what progress_line adds
_NARROWEST = 30  # characters of a reason that are always shown
_VERDICT = max(len(outcome.value) for outcome in ClaimVerdict)


class FindingLog:
    """The findings of one run.

    Args:
        total: how many are expected.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._findings: list[Finding] = []

    def add(self, found: Mapping[str, Any], eta_seconds: float | None) -> str:
        """Keep a finding as ``sparsity_claim`` tells it; the line that shows it.

        Args:
            found: ``finding`` and ``seconds``.
            eta_seconds: estimate of what the other claims will take; None if nobody knows.
        """
        finding = Finding.from_json(found["finding"])
        self._findings.append(finding)
        line = _line(finding, found["seconds"])
        return progress_line(line, len(self._findings), self._total, eta_seconds)

    @property
    def judged(self) -> bool:
        """Whether anything could be said about any claim."""
        return any(finding.outcome is not ClaimVerdict.UNTESTABLE for finding in self._findings)

    def table(self, width: int) -> str:
        """One row per claim and model, in the order of the claims, and why it is so.

        Empty if nothing was found.
        """
        from tabulate import tabulate

        if not self._findings:
            return ""
        order = list(CATALOG)
        findings = sorted(self._findings, key=lambda f: (f.model, order.index(f.claim)))
        models = {finding.model for finding in findings}
        names = [f.claim if len(models) == 1 else f"{f.claim} {f.model}" for f in findings]
        room = width - max(map(len, names)) - _VERDICT - 4  # blanks between the columns
        room = max(room, _NARROWEST)  # with names that long, the table is wider than asked
        rows = [
            (
                name,
                finding.outcome.value,
                _wrapped(f"{CATALOG[finding.claim].sentence}\n{finding.why}", room),
            )
            for name, finding in zip(names, findings, strict=True)
        ]
        return str(tabulate(rows, headers=("claim", "verdict", "why"), disable_numparse=True))


def _wrapped(text: str, width: int) -> str:
    lines = (textwrap.wrap(line, width, break_on_hyphens=False) for line in text.splitlines())
    return "\n".join(line for wrapped in lines for line in wrapped)


def _line(finding: Finding, seconds: float) -> str:
    """The verdict and as much of its reason as there is room for, in plain ASCII."""
    head = f"{finding.outcome.value:<{_VERDICT}}  {finding.claim}  "
    tail = f"  {seconds:.1f} s"
    room = WIDTH - _AROUND - len(head) - len(tail)
    if not finding.why.startswith(finding.model):  # as the name of a cell does
        head += f"{shortened(finding.model, room - _NARROWEST - 2, keep_end=True)}  "
    why = textwrap.shorten(finding.why, WIDTH - _AROUND - len(head) - len(tail), placeholder="...")
    return f"{head}{why}{tail}".encode("ascii", "replace").decode()
