"""Draws cases from the space of an op.

Every parameter goes through its values in an order by lot, so that in a hundred cases each comes
up about as often as it is there, and with others each time.  Places of values in lists are drawn,
not numbers: of sizes those that kernels get wrong are there more often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.cases import INTERPRETED
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.records import record
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel

if TYPE_CHECKING:
    from hypothesis import strategies as st

#: Draws for each case that is asked for: of a small space many are the same.
_DRAWS = 10


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

    def draw(self, count: int, seed: int) -> Iterator[Case]:
        """The simplest case, then others by lot, ``count`` in all: the same for the same seed.

        Each comes once: where the space has no more, there are fewer.
        """
        lot = random.Random(seed)
        orders = {name: _by_lot(len(among), count, lot) for name, among in self.choices.items()}
        drawn = set[Case]()
        case = self.op.case_of({name: among[0] for name, among in self.choices.items()})
        for _ in range(_DRAWS * count):
            if case not in drawn:
                drawn.add(case)
                yield case
                if len(drawn) == count:
                    return
            case = self.op.case_of({n: self.choices[n][next(at)] for n, at in orders.items()})

    def strategy(self, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
        """Draws them with hypothesis, which shrinks to the simplest; ``given`` otherwise."""
        from hypothesis import strategies as st

        drawn = {
            name: st.sampled_from(among)
            for name, among in self.choices.items()
            if name not in given
        }
        return st.fixed_dictionaries(drawn | given).map(self.op.case_of)


def _by_lot(size: int, count: int, lot: random.Random) -> Iterator[int]:
    """Places in a list of ``size``, each as often as the others; ``count`` are enough for long."""
    while True:
        yield from lot.sample(range(size), min(size, count))


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
