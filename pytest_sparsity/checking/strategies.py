"""Hypothesis strategies: cases of an op, and operands for tests of your own.

Only shapes, kinds and a seed are drawn, never elements, so that a failing case shrinks to the
smallest shape and prints on a line.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import space
from pytest_sparsity.kernels.registry import Kernel


def cases(op: str, kernel: Kernel | None = None, **fixed: Any) -> st.SearchStrategy[Case]:
    """Cases of ``op`` that ``kernel`` says it takes.

    Args:
        op: name of an op.
        kernel: limits rows and dtypes to its own.
        fixed: values, or strategies, of parameters that are not to be drawn as otherwise.

    Raises:
        TypeError: the op has no such parameter.
    """
    given = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for name, value in fixed.items()
    }
    return space(op, kernel, **dict.fromkeys(fixed, ())).strategy(**given)


def inputs(op: str, kernel: Kernel | None = None, **fixed: Any) -> st.SearchStrategy[Any]:
    """Operands of ``op`` on the CPU, of the cases that :func:`cases` draws."""
    return cases(op, kernel, **fixed).map(record(op).build)
