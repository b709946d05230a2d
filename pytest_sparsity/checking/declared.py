"""What the author of an op declares is possible: its outputs, and the space of its cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.record import FIELDS
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import DTYPES
from pytest_sparsity.reference.ops import Output

#: Where a space does not say: what every case has.
_ALWAYS: Mapping[str, Sequence[Any]] = {"dtype": DTYPES, "seed": range(2**16)}


def check_outputs(outputs: Sequence[Output]) -> None:
    """See that outputs are possible.

    Raises:
        SparsityError: they are not.
    """
    if not isinstance(outputs, tuple | list) or not outputs:
        raise SparsityError(f"@sparse_op(outputs={outputs!r}): give a sequence of Output")
    for output in outputs:
        if not isinstance(output, Output):
            raise SparsityError(f"@sparse_op(outputs=...): {output!r} is no Output")
        if output.kind not in ("numbers", "exact", "set"):
            raise SparsityError(
                f"@sparse_op: Output(kind={output.kind!r}): use numbers, exact or set"
            )
        dtype = getattr(torch, output.dtype, None)
        if output.dtype != "operand" and not isinstance(dtype, torch.dtype):
            raise SparsityError(
                f"@sparse_op: Output(dtype={output.dtype!r}): use operand, or the name of a dtype "
                "of torch"
            )
        if isinstance(dtype, torch.dtype) and dtype.is_complex:
            raise SparsityError(
                f"@sparse_op: Output(dtype={output.dtype!r}): results are real; give "
                "torch.view_as_real of it"
            )
        whole = isinstance(dtype, torch.dtype) and not dtype.is_floating_point
        if output.kind == "set" and not whole:
            raise SparsityError(
                f"@sparse_op: Output({output.name!r}, 'set'): give the dtype of its numbers, as "
                "int64"
            )


def with_defaults(op: str, space: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    """The space of an op, with what every case has.

    Raises:
        SparsityError: it is none, or a case cannot print a value and read it back.
    """
    if not isinstance(space, Mapping):
        raise SparsityError(f"@sparse_op(space=...) of {op}: give names and their values")
    for name, values in space.items():
        if isinstance(values, str) or not hasattr(values, "__getitem__") or not len(values):
            raise SparsityError(
                f"@sparse_op: the space of {op} has {name}={values!r}; give a sequence of values, "
                "the simplest first"
            )
    for dtype in space.get("dtype", ()):
        if not isinstance(getattr(torch, str(dtype), None), torch.dtype):
            raise SparsityError(f"@sparse_op: the space of {op} has dtype={dtype!r}; torch has not")
    for name, values in space.items():
        if name not in FIELDS:
            _check_told(op, name, values)
    return {**space, **{n: v for n, v in _ALWAYS.items() if n not in space}}


def _check_told(op: str, name: str, values: Sequence[Any]) -> None:
    """Every value is read back from the line that a failing case prints."""
    for value in values:
        known: Any = value
        try:
            known = Case.parse(str(Case().with_options(**{name: value}))).option(name, None)
        except (SparsityError, TypeError):
            known = None
        if known != value or type(known) is not type(value):
            raise SparsityError(
                f"@sparse_op: the space of {op} has {name}={value!r}, which a case cannot print "
                "and read back; use words, numbers, yes or no (bool), or tuples of two or more "
                "whole numbers"
            )
    if len({type(value) for value in values}) > 1:
        raise SparsityError(
            f"@sparse_op: the space of {op} has values of several types for {name}; use one"
        )
