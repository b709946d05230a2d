"""The records of all ops that are known: ours, those of entry points, those of conftests."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.checking.ops.table import OURS
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import load_entry_points

#: The group by which installed packages name the modules of their ops.
ENTRY_POINTS = "pytest_sparsity.ops"
_RECORDS: dict[str, OpRecord] = {own.op.name: own for own in OURS}


def records() -> Mapping[str, OpRecord]:
    """All records, by the names of their ops.

    Raises:
        SparsityError: an entry point of the group ``pytest_sparsity.ops`` cannot be loaded.
    """
    load_entry_points(ENTRY_POINTS)
    return dict(_RECORDS)


def record(op: str) -> OpRecord:
    """The record of the op of this name.

    Raises:
        SparsityError: there is none.
    """
    if op in _RECORDS:  # or all that is installed is searched for others
        return _RECORDS[op]
    known = records()
    if op not in known:
        raise SparsityError(f"there is no op {op!r}; known are {', '.join(known)}")
    return known[op]


def add_record(new: OpRecord) -> OpRecord:
    """Make a record known, and return it."""
    _RECORDS[new.op.name] = new
    return new
