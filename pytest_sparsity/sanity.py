"""Checks of the measurement itself, which every sweep makes."""

from __future__ import annotations

from pytest_sparsity.sweep.sanity import (
    Dropped,
    better_when_sparser,
    changed_at_level_zero,
    dropped_when_dense,
    dropped_when_sparse,
    sparse_configurations,
    verdicts_on_broken,
)

__all__ = [
    "Dropped",
    "better_when_sparser",
    "changed_at_level_zero",
    "dropped_when_dense",
    "dropped_when_sparse",
    "sparse_configurations",
    "verdicts_on_broken",
]
