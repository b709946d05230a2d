"""What Triton's language leaves open, as the interpreter chooses it, anew for every case.

A kernel must be right whatever is chosen.  Where it is not, :func:`cause` finds the choice that it
depends on: with that one taken from it, the same case passes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import triton.language as tl

Element = npt.NDArray[Any]


@dataclass
class Choices:
    """What holds for the launches to come.

    Attributes:
        number: of the choice: another one takes another configuration of autotuned kernels,
            other values of undefined lanes, and another order of programs.
        launches: since then.
        shuffles: programs of a launch do not always run in ascending order.
        defined: undefined lanes hold 0.
        only: where undefined lanes are loaded that do not hold 0, if it is but one place.
        rounds: ``tl.dot`` rounds float32 operands, see ``dots``.
        undefined: where undefined lanes were loaded, if that is to be noted.
        rounded: where operands were rounded, likewise.
        shuffled: whether programs ran in another order than ascending, likewise.
    """

    number: int = 0
    launches: int = 0
    shuffles: bool = True
    defined: bool = False
    only: str | None = None
    rounds: bool = True
    undefined: set[str] | None = None
    rounded: set[str] | None = None
    shuffled: set[str] | None = None


_choices = Choices()

#: The bits of positive infinity.
_INFINITE = {
    tl.float16: np.uint16(0x7C00),
    tl.bfloat16: np.uint16(0x7F80),
    tl.float32: np.uint32(0x7F800000),
    tl.float64: np.uint64(0x7FF0000000000000),
}


def choose(number: int) -> None:
    """From now on, choose by ``number``: that of a case, which then fails again when repeated."""
    _choices.number, _choices.launches = number, 0


def configuration(count: int) -> int:
    """Which of ``count`` configurations an autotuned kernel runs with."""
    return _choices.number % count


def order(count: int) -> Sequence[int]:
    """The order in which so many programs of the next launch run: up, down, or by lot, in turn."""
    turn = _choices.number + _choices.launches
    _choices.launches += 1
    if turn % 3 == 0 or not _choices.shuffles or count == 1:
        return range(count)
    if _choices.shuffled is not None:
        _choices.shuffled.add("")
    if turn % 3 == 1:
        return range(count - 1, -1, -1)
    return random.Random(turn).sample(range(count), count)


def undefined(dtype: tl.dtype, kept_as: np.dtype[Any], place: Callable[[], str]) -> Element:
    """What lanes hold that are masked off, without ``other``: one element.

    NaN or infinity, which a product with 0 does not hide, and which comparisons take for small or
    for large; of an integer type a very large number, up or down.  Triton's language leaves the
    value open (``tl.load``), and compiled code leaves in the register what was there.

    Args:
        dtype: of the lanes.
        kept_as: the interpreter's dtype for it.
        place: tells where in the kernel's source they are loaded.
    """
    if _choices.undefined is not None:
        _choices.undefined.add(place())
    if _choices.defined or (_choices.only is not None and _choices.only != place()):
        return np.zeros(1, kept_as)
    high = _choices.number // 2 % 2 == 1
    if dtype == tl.int1:
        return np.ones(1, kept_as)
    if dtype in _INFINITE and high:
        return np.array([_INFINITE[dtype]]).view(kept_as)
    byte = 0xFF if dtype.is_floating() else 0x7F if high else 0x80
    return np.full(kept_as.itemsize, byte, np.uint8).view(kept_as)


def rounds(place: Callable[[], str]) -> bool:
    """Whether a ``tl.dot`` rounds its float32 operands, as it asks for."""
    if _choices.rounded is not None:
        _choices.rounded.add(place())
    return _choices.rounds


def cause(passes: Callable[[], bool]) -> str:
    """On which choice a failing case depends, in words; empty if on none that is known.

    Args:
        passes: tries the case again.
    """
    undefined, rounded, shuffled = set[str](), set[str](), set[str]()
    with _instead(undefined=undefined, rounded=rounded, shuffled=shuffled):
        if passes():  # it needs more than the case
            return ""
    if undefined and _passes(passes, defined=True):
        guilty = [at for at in sorted(undefined) if not _passes(passes, only=at)]
        return (
            "depends on lanes of a load that are masked off without other=, which are undefined "
            f"({'infinite' if _choices.number // 2 % 2 else 'NaN'} here), in "
            f"{' or '.join(guilty or sorted(undefined))}"
        )
    if rounded and _passes(passes, rounds=False):
        return (
            "depends on bits of float32 operands that tl.dot ignores on a GPU unless it is given "
            'input_precision="ieee" (products="tf32" declares it), in '
            f"{' or '.join(sorted(rounded))}"
        )
    if shuffled and _passes(passes, shuffles=False):
        return (
            "depends on the order in which the programs of a launch run, which is open: on a GPU "
            "they run at the same time"
        )
    return ""


def _passes(passes: Callable[[], bool], **changes: Any) -> bool:
    """Whether it passes with these choices in place of what was chosen."""
    with _instead(**changes):
        return passes()


@contextmanager
def _instead(**changes: Any) -> Iterator[None]:
    global _choices
    before = _choices
    _choices = replace(before, **changes)
    try:
        yield
    finally:
        _choices = before
