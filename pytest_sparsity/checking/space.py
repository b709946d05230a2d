"""Draws cases from the space of an op.

Hypothesis draws the places of values in lists, not the values: drawing integers it prefers one
and two, and in 100 cases half had so few channels that wrong kernels passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.cases import INTERPRETED
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.records import record
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel


@dataclass(frozen=True)
class Space:
    """Cases to draw from.

    Attributes:
        op: whose they are.
        choices: values of fields of ``Case`` and options of the op, the simplest first; one that
            is there several times is drawn that much more often.
    """

    op: OpRecord
    choices: Mapping[str, Sequence[Any]]

    def strategy(self, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
        """Draws them, and shrinks to the simplest; ``given`` are drawn otherwise."""
        drawn = {
            name: st.sampled_from(among)
            for name, among in self.choices.items()
            if name not in given
        }
        return st.fixed_dictionaries(drawn | given).map(self.op.case_of)


def space(op: str, kernel: Kernel | None = None, **fixed: Sequence[Any]) -> Space:
    """The cases of ``op`` that ``kernel`` says it takes.

    Args:
        op: name of an op.
        kernel: limits rows and dtypes to its own.
        fixed: other values of some parameters.

    Raises:
        TypeError: the op has no such parameter.
        SparsityError: there is no such op.
    """
    own = record(op)
    choices = dict(own.space)
    if kernel is not None:
        if "rows" in choices:
            choices["rows"] = [rows for rows in choices["rows"] if rows <= kernel.max_rows]
        if "dtype" in choices:
            choices["dtype"] = [dtype for dtype in choices["dtype"] if dtype in kernel.dtypes]
        for name in ("rows", "dtype"):
            if name in choices and not choices[name]:
                taken = kernel.dtypes if name == "dtype" else f"up to {kernel.max_rows}"
                raise SparsityError(
                    f"{kernel.id} takes {name} {taken}, and cases of {op} have none of these: "
                    f"{', '.join(map(str, own.space[name]))}"
                )
        if kernel.backend == "triton" and not own.foreign:
            for name in {"k", "n", "hidden"} & choices.keys():
                choices[name] = [size for size in choices[name] if size <= INTERPRETED]
    for name, among in fixed.items():
        if name not in choices:
            raise TypeError(f"cases of {op} have no {name!r}, only {', '.join(choices)}")
        if own.foreign:  # its author knows what it can have
            among = [value for value in among if value in own.space[name]] or choices[name]
        choices[name] = among
    return Space(own, choices)
