"""Runs that did nothing of what they were to do: these must not pass, although no test failed."""

from __future__ import annotations

from pytest_sparsity.plugin.run import Run


def of_sweep(run: Run) -> str:
    """What the bundled suites have not measured, in a sentence; empty if nothing is missing.

    A user's own tests and the performance suite need not measure any cell.
    """
    sparse = any(verdict.comparison.change is not None for verdict in run.verdicts)
    if "accuracy" in run.suites and not sparse:
        return "the sweep measured no sparse cell: nothing was tested"
    if "kernels" in run.suites and all(check["status"] == "skipped" for check in run.checks):
        return "the sweep checked no kernel: nothing was tested"
    if "claims" in run.suites and not _judged_a_claim(run):
        return "the sweep judged no claim: nothing was tested"
    return ""


def of_gate(run: Run) -> str:
    """What the gate has not compared or stored, in a sentence; empty if nothing is missing."""
    from pytest_sparsity.reporting.gate import compared

    settings = run.settings
    storing = settings.updating and settings.baseline is not None
    stored = storing and bool(run.stores_times or run.verdicts)
    if settings.gate != "off" and not (compared(run.decisions) or stored):
        return "the gate compared nothing: nothing was tested"
    if settings.update and storing and not stored:
        return f"nothing was stored in {settings.baseline}"
    return ""


def _judged_a_claim(run: Run) -> bool:
    from pytest_sparsity.claims.finding import ClaimVerdict, Finding

    outcomes = [Finding.from_json(found["finding"]).outcome for found in run.findings]
    return any(outcome is not ClaimVerdict.UNTESTABLE for outcome in outcomes)
