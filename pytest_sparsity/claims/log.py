"""What was found about claims: a line each as they come, and a table at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.finding import ClaimVerdict, Finding
from pytest_sparsity.reporting.live import WIDTH, shortened

_AROUND = len("[99/99] ") + len("  eta 1:02:33")  # what progress_line adds
_NARROWEST = 30  # characters of a reason that are always shown
_VERDICT = max(len(outcome.value) for outcome in ClaimVerdict)


def finding_line(found: Mapping[str, Any]) -> str:
    """The line that shows a finding as it comes, short enough for :func:`progress_line`.

    Args:
        found: ``finding`` and ``seconds``, as ``sparsity_claim`` sends them.
    """
    return _line(Finding.from_json(found["finding"]), found["seconds"])


def findings_table(found: Sequence[Mapping[str, Any]], width: int) -> str:
    """One row per claim and model, in the order of the claims, and why it is so.

    Args:
        found: at least one finding, as ``sparsity_claim`` sends them.
        width: of the terminal, in characters.
    """
    from tabulate import tabulate

    order = list(CATALOG)
    findings = [Finding.from_json(each["finding"]) for each in found]
    findings.sort(key=lambda f: (f.model, order.index(f.claim)))
    models = {finding.model for finding in findings}
    names = [f.claim if len(models) == 1 else f"{f.claim} {f.model}" for f in findings]
    room = width - max(map(len, names)) - _VERDICT - 4  # blanks between the columns
    room = max(room, _NARROWEST)  # with names that long, the table is wider than asked
    rows = [
        (name, finding.outcome.value, _wrapped(_explanation(finding), room))
        for name, finding in zip(names, findings, strict=True)
    ]
    return str(tabulate(rows, headers=("claim", "verdict", "why"), disable_numparse=True))


def _explanation(finding: Finding) -> str:
    return f"{CATALOG[finding.claim].sentence}\n{finding.why}"


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
