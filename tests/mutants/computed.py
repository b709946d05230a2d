"""Imported in a worker, it puts computed bounds in place of those that were derived by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from pytest_sparsity.reference import ops
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.stochastic import computed_bound


def _computed(op: ops.Op) -> ops.Op:
    def bound(inputs: Any, precision: Precision) -> Any:
        found = computed_bound(lambda: op.define(inputs), {}, precision)
        return found[0] if len(found) == 1 else found

    return dataclasses.replace(op, bound=bound)


ops._OPS.update({name: _computed(op) for name, op in ops.OPS.items() if op.bound is not None})
