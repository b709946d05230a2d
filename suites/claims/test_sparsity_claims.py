"""Every claim about activation sparsity, judged on every model: one test each.

A claim that is refuted is a result like one that is supported, and passes.  One that cannot be
tested here is skipped with the reason.  What was found is in ``findings.jsonl`` of the report.
"""

from __future__ import annotations

from pytest_sparsity.fixtures import ClaimCheck


def test_claim(sparsity_claim: ClaimCheck) -> None:
    """The data say something about the claim, or why they cannot."""
    sparsity_claim.check()
