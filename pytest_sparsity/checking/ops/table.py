"""Our ops' records, each in the module of its op's name."""

from __future__ import annotations

from importlib import import_module

from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.reference.ops import BUNDLED


def _record(op: str) -> OpRecord:
    found: OpRecord = import_module(f"pytest_sparsity.checking.ops.{op}").RECORD
    return found


OURS = tuple(map(_record, BUNDLED))
