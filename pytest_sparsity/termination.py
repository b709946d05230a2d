"""SIGTERM, with which CI runners cancel a job, taken for Ctrl-C: what was begun is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


def interrupt_on_sigterm() -> Callable[[], None]:
    """Raise KeyboardInterrupt on SIGTERM from now on; call what is returned to undo it.

    Nothing is done where somebody else handles the signal, or outside of the main thread.
    """
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        return lambda: None
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def undo() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return undo
