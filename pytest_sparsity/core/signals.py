"""Processes that others end: by a signal, or by no longer reading what they write."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity.core.exit_codes import ExitCode

if TYPE_CHECKING:
    import subprocess


def interrupt_on_sigterm() -> Callable[[], None]:
    """Raise KeyboardInterrupt on SIGTERM from now on; call what is returned to undo it.

    CI runners cancel a job with SIGTERM: it is taken for Ctrl-C, so that what was begun is
    cleaned up.  Nothing is done where somebody else handles the signal, or outside of the main
    thread.
    """
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        return lambda: None
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def undo() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return undo


def ending(code: int | None) -> str:
    """What one says of a process that was to answer and has ended with this status instead.

    Args:
        code: negative for a signal, as :mod:`subprocess` has it; None if it still runs.
    """
    if code is None:
        return "cut its connection"
    if code >= 0:
        return f"ended its process with exit status {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def end_session(leader: subprocess.Popen[Any]) -> None:
    """End a process that leads a session of its own, and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its status; quietly if its reader leaves (``| head``)."""
    try:
        try:
            status = main()
        finally:  # here and not at exit, where a reader that has left cannot be dealt with
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes what is left once more: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = ExitCode.BROKEN_PIPE
    sys.exit(status)
