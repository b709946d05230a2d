"""What a kernel must not leave behind in the process that calls it: threads, closed streams."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_sparsity.checking.failure import CheckFailure

_STREAMS = {1: "standard output", 2: "standard error"}


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Inside, a kernel is called.

    Threads of libraries that know nothing of Python (OpenMP, numba) may stay.  Where kernels are
    called by several threads at once, nobody knows who started one.

    Raises:
        CheckFailure: on leaving, if a thread that it started still runs, or if it closed or
            replaced a standard stream.
    """
    threads, streams = set(threading.enumerate()), _streams()
    yield
    if threading.current_thread() is threading.main_thread():
        left = [thread for thread in threading.enumerate() if thread not in threads]
        if left := [thread for thread in left if not isinstance(thread, threading._DummyThread)]:
            names = ", ".join(thread.name for thread in left)
            raise CheckFailure(f"started a thread that still runs when it returns: {names}")
    for number, now in _streams().items():
        if now != streams[number]:
            what = "closed" if now is None else "replaced"
            raise CheckFailure(f"{what} {_STREAMS[number]}")


def _streams() -> dict[int, tuple[int, int] | None]:
    """The files behind the standard streams; None for one that is closed."""
    found: dict[int, tuple[int, int] | None] = {}
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            status = os.fstat(number)
            closed = stream is not None and stream.closed
            found[number] = None if closed else (status.st_dev, status.st_ino)
        except OSError:
            found[number] = None
    return found
