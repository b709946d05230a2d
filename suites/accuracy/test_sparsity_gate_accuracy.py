"""Every cell of a stored run (``--sparsity-baseline``) against this run, with ``--sparsity-gate``.

A regression fails the cell's test; what the data do not decide is skipped with the reason.
"""

from __future__ import annotations

from pytest_sparsity.fixtures import AccuracyGate
from pytest_sparsity.results import Record


def test_no_accuracy_lost(stored_record: Record | None, accuracy_gate: AccuracyGate) -> None:
    """On the same documents and items, the cell is no worse than it was in the stored run."""
    accuracy_gate.check(stored_record)
