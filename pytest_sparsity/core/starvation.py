"""How long a process waited for a processor, so that a busy machine is not taken for a hang."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds after which it is looked again.
_EVERY = 0.2


class Starvation:
    """Time in which a process was ready to run and others had the processors.

    The processes that it started count as well, such as compilers.  Only Linux tells
    (``/proc/PID/task/TID/schedstat``: nanoseconds of running and of waiting); elsewhere it is 0.

    Args:
        process: its number.
        proc: where the system tells of processes.
    """

    def __init__(self, process: int, proc: Path = Path("/proc")) -> None:
        self._process = process
        self._proc = proc
        self._looked = time.monotonic()
        self._before = dict(self._waits())

    def since(self) -> float:
        """Seconds since the last look, of the thread that waited longest; 0 if it was just now."""
        if (now := time.monotonic()) < self._looked + _EVERY:
            return 0.0
        before, self._before, self._looked = self._before, dict(self._waits()), now
        return max((waited - before.get(t, 0.0) for t, waited in self._before.items()), default=0.0)

    def _waits(self) -> Iterator[tuple[str, float]]:
        """Threads of the process and of its descendants, and how long each has waited, in s."""
        processes = [str(self._process)]
        for process in processes:  # which grows
            with contextlib.suppress(OSError):
                for thread in (self._proc / process / "task").iterdir():
                    # One that ends while it is looked at has no more to tell.
                    with contextlib.suppress(OSError, IndexError, ValueError):
                        yield thread.name, int((thread / "schedstat").read_text().split()[1]) / 1e9
                        processes += (thread / "children").read_text().split()
