"""What the launch of a Triton kernel returns, where nothing was compiled to be launched again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pytest_sparsity.checking.failure import CannotCheck

#: What is known of code that is on a device.
_OF_CODE = frozenset({"asm", "function", "metadata", "module", "n_regs", "n_spills"})


class Launched:
    """A compiled kernel in the eyes of its wrapper: ``compiled[grid](*args)`` launches it again.

    It takes all arguments by position, constants too.
    """

    def __init__(self, start: Callable[..., Any]) -> None:
        """``start(grid, *args)`` launches it."""
        self._start = start

    def __getitem__(self, grid: Sequence[int]) -> Callable[..., None]:
        def launch(*args: Any, stream: Any = None) -> None:
            self._start(grid, *args)

        return launch

    def _init_handles(self) -> None:
        """Load the code onto the device: there is none."""

    def __getattr__(self, name: str) -> Any:
        """Nothing: there is no code.

        Raises:
            CannotCheck: a compiled kernel has it.
            AttributeError: it has not.
        """
        if name in _OF_CODE:
            raise CannotCheck(f"it asks for {name} of a compiled kernel, which needs a GPU")
        raise AttributeError(name)


def launched(executor: Any) -> Launched:
    """Of a launch by the interpreter's ``GridExecutor``, which runs it again."""

    def start(grid: Sequence[int], *args: Any) -> None:
        again = copy.copy(executor)
        again.grid = grid
        again(*args)

    return Launched(start)
