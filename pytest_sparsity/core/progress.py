"""How long-running work tells its caller how far it is, without knowing about terminals.

Work takes a :data:`Progress` and opens one :class:`Phase` per phase::

    with progress("convert smollm2-135m", total=272, unit="tensor") as task:
        for tensor in tensors:
            ...
            task.advance()
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Phase(Protocol):
    """One phase of long work."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Report ``amount`` more units done; ``note`` is shown beside the bar."""


class Progress(Protocol):
    """Opens a :class:`Phase`; ``total=None`` means the length is not known."""

    def __call__(
        self, description: str, total: float | None = None, unit: str = "it"
    ) -> AbstractContextManager[Phase]:
        """Open a task of ``total`` units."""


class Stream(Protocol):
    """What progress is written to."""

    def write(self, text: str, /) -> int:
        """Write ``text``."""

    def flush(self) -> None:
        """Show what was written."""

    def isatty(self) -> bool:
        """Whether a person is watching."""


class _SilentPhase:
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass


@contextlib.contextmanager
def silent(description: str, total: float | None = None, unit: str = "it") -> Iterator[Phase]:
    """The default: long work that tells nobody."""
    yield _SilentPhase()


class _Lines:
    """Progress for logs and pipes: a line at the start, every ten seconds, and at the end."""

    def __init__(self, stream: Stream, description: str, total: float | None, unit: str) -> None:
        self._stream, self._description, self._total, self._unit = stream, description, total, unit
        self._done = 0.0
        self._started = self._told = time.monotonic()
        self._say("started")

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._done += amount
        if time.monotonic() - self._told >= 10:
            self._told = time.monotonic()
            of = f" of {self._total:,.0f}" if self._total else ""
            self._say(f"{self._done:,.0f}{of} {self._unit} {note}".rstrip())

    def close(self) -> None:
        self._say(f"done in {time.monotonic() - self._started:.1f} s")

    def _say(self, what: str) -> None:
        self._stream.write(f"{self._description}: {what}\n")
        self._stream.flush()


class _Bar:
    def __init__(self, stream: Stream, description: str, total: float | None, unit: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total, desc=description, unit=unit, unit_scale=True, file=stream, leave=False
        )

    def advance(self, amount: float = 1, note: str = "") -> None:
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(amount)

    def close(self) -> None:
        self._bar.close()


def on_stream(stream: Stream | None = None) -> Progress:
    """Progress on ``stream`` (default: standard error): a bar on a terminal, else log lines."""
    target: Stream = stream if stream is not None else sys.stderr
    kind: Callable[..., _Bar | _Lines] = _Bar if target.isatty() else _Lines

    @contextlib.contextmanager
    def progress(description: str, total: float | None = None, unit: str = "it") -> Iterator[Phase]:
        task = kind(target, description, total, unit)
        try:
            yield task
        finally:
            task.close()

    return progress
