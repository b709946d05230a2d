"""The programs of a launch, one after another, in an order of their own.

A GPU starts them in any order and runs many at a time.  Here one runs until it is done, unless it
waits for another: if it looks at one place again and again, by atomics or volatile loads, those
that have not begun are run meanwhile.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

Program = tuple[int, int, int]

#: How often a program looks at one place until it is taken to wait.
_PATIENCE = 20
#: Frames of Python that programs inside of each other may need.
_FRAMES = 100_000


class Programs:
    """Stands for the function of a kernel: called for each program, it runs the next of its own."""

    def __init__(
        self, function: Callable[..., Any], builder: Any, order: Callable[[int], Sequence[int]]
    ) -> None:
        """Begin a launch.

        Args:
            function: of the kernel, which runs the program that ``builder`` is at.
            builder: of the interpreter; has ``grid_dim`` and ``grid_idx``.
            order: numbers of programs, for their count, in the order in which they are to run.
        """
        functools.update_wrapper(self, function)
        self.__signature__ = inspect.signature(function)
        # What the interpreter redirects in a function's module.
        self.__globals__ = function.__globals__
        self._function, self._builder, self._order = function, builder, order
        self._waiting: list[Program] | None = None
        self._arguments: dict[str, Any] = {}
        self._looked: tuple[int, int] = (0, 0)

    def __call__(self, **arguments: Any) -> None:
        """Run the next program, whichever the builder is at; nothing if all have been."""
        if self._waiting is None:
            self._arguments = arguments
            self._waiting = self._all()
        if self._waiting:
            self._run(self._waiting.pop())

    def looks(self, address: int) -> None:
        """Say that the program looks at a place that another one may write."""
        before, times = self._looked
        self._looked = (address, times + 1 if address == before else 1)
        if self._looked[1] >= _PATIENCE and self._waiting:
            program = self._builder.grid_idx
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(max(limit, _FRAMES))
            try:
                # Those before it, above all, are what a program waits for.
                first = min(self._waiting)
                self._waiting.remove(first)
                self._run(first)
            finally:
                sys.setrecursionlimit(limit)
            self._builder.grid_idx = program

    def _run(self, program: Program) -> None:
        self._builder.grid_idx = program
        self._looked = (0, 0)
        self._function(**self._arguments)

    def _all(self) -> list[Program]:
        """All programs, the first to run at the end."""
        _, y, z = self._builder.grid_dim
        count = self._builder.grid_dim[0] * y * z
        return [(n // (y * z), n // z % y, n % z) for n in reversed(self._order(count))]
