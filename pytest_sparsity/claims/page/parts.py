"""How figures, tables and outcomes are written on the page of findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from pytest_sparsity.claims.claim import Claim
from pytest_sparsity.claims.finding import ClaimVerdict, Effect, in_unit, limit_in_unit
from pytest_sparsity.claims.page.runs import ClaimsRun
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.columns import escape

#: How a claim of the question is answered.
WORDS = {
    ClaimVerdict.SUPPORTED: "yes",
    ClaimVerdict.REFUTED: "no",
    ClaimVerdict.INCONCLUSIVE: "the data do not decide",
    ClaimVerdict.UNTESTABLE: "cannot be tested here",
}
_MISSING = "not run"
#: Longer tables of figures are folded away.
_SHOWN = 8


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows with the same keys; text is shown as it is."""
    escaped = [{escape(k): escape(str(v)) for k, v in row.items()} for row in rows]
    return str(tabulate(escaped, headers="keys", tablefmt="github", disable_numparse=True))


def outcome(run: ClaimsRun, claim: str, words: Mapping[ClaimVerdict, str] | None = None) -> str:
    """What a run says about a claim."""
    finding = run.findings.get(claim)
    if finding is None:
        return _MISSING
    return words[finding.outcome] if words else finding.outcome.value


def statement(claim: Claim, heading: str) -> str:
    """A claim with its definition and rule."""
    return (
        f"{heading}\n\n> {claim.sentence}\n\n"
        f"**Defined as.** {escape(claim.definition)}\n\n**Decided by.** {escape(claim.rule)}"
    )


def effects(runs: Sequence[ClaimsRun], claim: str) -> str:
    """Verdict, reason and every figure of a claim, run by run."""
    return "\n\n".join(_effects(run, claim) for run in runs)


def _effects(run: ClaimsRun, claim: str) -> str:
    finding = run.findings.get(claim)
    if finding is None:
        return f"**{escape(run.label)}: {_MISSING}**"
    why = "" if finding.outcome is ClaimVerdict.SUPPORTED else f" {escape(finding.why)}."
    verdict = f"**{escape(run.label)}: {finding.outcome.value}.**{why}"
    if not finding.effects:
        return verdict
    figures = table([_row(effect) for effect in finding.effects])
    if len(finding.effects) > _SHOWN:
        summary = f"{len(finding.effects)} figures"
        figures = f"<details><summary>{summary}</summary>\n\n{figures}\n\n</details>"
    return f"{verdict}\n\n{figures}"


def _row(effect: Effect) -> dict[str, Any]:
    found = effect.interval
    return {
        "figure": effect.label,
        "value": in_unit(found, effect.unit) + _noted(found),
        "interval": f"{100 * found.confidence:.4g} %",
        "n": found.n or "",
        "held against": "" if effect.limit is None else limit_in_unit(effect.limit, effect.unit),
    }


def _noted(found: Interval) -> str:
    """Why there is no value, or no limit."""
    complete = all(map(math.isfinite, (found.estimate, found.low, found.high)))
    return "" if complete or not found.note else f" ({found.note})"
