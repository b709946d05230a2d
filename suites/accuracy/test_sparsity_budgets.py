"""Every cell of the grid against its budget: one test per configuration and evaluation."""

from __future__ import annotations

from pytest_sparsity.fixtures import Cell, Degradation


def test_within_budget(sparsity_cell: Cell, cell_degradation: Degradation) -> None:
    """No metric of the cell is beyond its budget; a dense cell is fit to be compared with."""
    cell_degradation.check(sparsity_cell.evaluation)
