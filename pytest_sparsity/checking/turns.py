"""Two threads in one function: by turns, line by line, and at once."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

R = TypeVar("R")

#: Seconds that a thread waits for its turn.  The other one may wait for something that this one
#: holds, such as a lock; then both go on, and the order is left to chance.
_PATIENCE = 0.2
#: Packages whose lines are not stopped at: nothing of a kernel's own is in them.
_LIBRARIES = ("torch", "triton", "numpy", "numba", "llvmlite")


def taken(call: Callable[[int], R]) -> tuple[R, R]:
    """``call(0)`` and ``call(1)`` in two threads that take turns at every line.

    Lines of the libraries around do not count, and what Triton interprets is one step.  So the
    order is the same every time, and neither waits for the clock.

    Raises:
        Exception: what either raised.
    """
    turns = _Turns()
    return _both(lambda index: turns.run(index, lambda: call(index)))


def at_once(call: Callable[[int], R], times: int) -> list[tuple[R, R]]:
    """``call(0)`` and ``call(1)`` in two threads that start together, so many times.

    Raises:
        Exception: what either raised.
    """
    start = threading.Barrier(2)

    def run(index: int) -> list[R]:
        found = []
        try:
            for _ in range(times):
                start.wait()
                found.append(call(index))
        except threading.BrokenBarrierError:
            pass  # the other one failed, and says why
        except BaseException:
            start.abort()
            raise
        return found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        return list(zip(*_both(run), strict=False))
    finally:
        sys.setswitchinterval(interval)


def _both(run: Callable[[int], R]) -> tuple[R, R]:
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def body(index: int) -> None:
        try:
            results[index] = run(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results[0], results[1]


class _Turns:
    """Whose turn it is, of two threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turn = 0
        self._running = {0, 1}
        self._indivisible = 0

    def run(self, index: int, call: Callable[[], R]) -> R:
        """``call()`` as this one of the two; it gives the turn away at each of its lines."""
        try:
            self._wait(index)
            sys.settrace(lambda frame, event, _: self._entered(index, frame))
            return call()
        finally:
            sys.settrace(None)
            with self._changed:
                self._running.discard(index)
                self._turn = 1 - index
                self._changed.notify_all()

    def _entered(self, index: int, frame: FrameType) -> Callable[..., Any] | None:
        """How a function is traced that was just called."""
        if self._indivisible:
            return None
        if _interprets(frame.f_code):
            self._indivisible += 1
            frame.f_trace_lines = False
            return self._until_it_returns
        return self._at_line(index) if _own(frame.f_code) else None

    def _until_it_returns(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "return":
            self._indivisible -= 1
        return self._until_it_returns

    def _at_line(self, index: int) -> Callable[..., Any]:
        def traced(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                with self._changed:
                    self._turn = 1 - index
                    self._changed.notify_all()
                self._wait(index)
            return traced

        return traced

    def _wait(self, index: int) -> None:
        with self._changed:
            while self._turn != index and 1 - index in self._running:
                # Interpreted programs share the interpreter's state: no other may come in between.
                if not self._changed.wait(_PATIENCE) and not self._indivisible:
                    break
            self._turn = index


@cache
def _own(code: CodeType) -> bool:
    """Whether code is a kernel's, or of a library that it is written with."""
    file = Path(code.co_filename)
    if not file.is_absolute() or any(folder in file.parents for folder in _foreign()):
        return False
    stdlib = Path(sysconfig.get_path("stdlib"))  # which may hold what is installed as well
    return stdlib not in file.parents or "site-packages" in file.relative_to(stdlib).parts


@cache
def _foreign() -> tuple[Path, ...]:
    specs = [find_spec(name) for name in _LIBRARIES]
    libraries = [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin]
    ours = Path(__file__).parents[1]
    return (*libraries, *(ours / name for name in ("checking", "core", "reference")))


@cache
def _interprets(code: CodeType) -> bool:
    file = Path(code.co_filename)
    return file.parts[-3:] == ("triton", "runtime", "interpreter.py") or file == Path(
        __file__
    ).with_name("interpreter.py")
