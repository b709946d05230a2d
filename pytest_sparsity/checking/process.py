"""The parent's side of one worker: started, asked, watched while it works, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import takewhile
from multiprocessing.connection import Connection, wait
from typing import Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.messages import DEVICE_LOST, Board, Refusal, Request
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.core.signals import end_session, ending
from pytest_sparsity.core.starvation import Starvation
from pytest_sparsity.core.threads import limited_to

_HUNG = "hung"
#: How often a worker is looked after that says nothing, in seconds.
_TICK = 0.5
#: Bytes kept of what kernels print, and how much of them is shown.
_TAIL, _LINES, _WIDTH = 16384, 20, 200


@dataclass(frozen=True)
class Death:
    """How a worker ended that should not have.

    Attributes:
        reason: "was killed by SIGSEGV", "hung: ...": what one says of the kernel.
        case: the case it was in; None if it was in none.
        begun: how many cases it began in this check.
        output: the end of what it printed.
    """

    reason: str
    case: Case | None
    begun: int
    output: str

    @property
    def hung(self) -> bool:
        """It did not end, but was ended."""
        return self.reason.startswith(_HUNG)


class Worker:
    """One worker process and the three ways to it: socket, board, output."""

    def __init__(self, mode: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file:
            self._board = Board(file.fileno())
            numbers = (theirs.fileno(), file.fileno())
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest_sparsity.checking.worker", mode),
                    *map(str, (*numbers, os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=numbers,
                env=_environment(mode),
                start_new_session=True,  # Ctrl-C is for the parent; children end with it
            )
        self._connection = Connection(ours.detach())
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._tail = b""
        self._begun = 0
        with contextlib.suppress(OSError):  # it is dead already: the first question will tell
            self._connection.send([entry or os.getcwd() for entry in sys.path])

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(self, request: Request, limits: tuple[float, float]) -> CheckResult | Refusal | Death:
        """The worker's answer, or how it died instead of giving one.

        Args:
            request: what to check.
            limits: seconds until the first case, and between cases, not counting those in which
                it could have run and other processes had the processors.
        """
        first, later = limits
        self._tail = b""
        self._begun = seen = self._board.begun
        try:
            self._connection.send(request)
        except OSError:
            return self._death()
        sources: list[Any] = [self._connection, self._output]
        starvation = Starvation(self._process.pid)
        deadline = time.monotonic() + first
        while True:
            ready: list[Any] = wait(sources, timeout=_TICK)
            if self._output in ready and not self._drain():
                sources.remove(self._output)  # the kernel closed it
            if self._connection in ready:
                try:
                    reply: CheckResult | Refusal = self._connection.recv()
                except (EOFError, OSError):
                    return self._death()
                return reply
            if not self.alive:
                return self._death()
            if self._board.begun != seen:
                seen, deadline = self._board.begun, time.monotonic() + later
                continue
            deadline += starvation.since()
            if time.monotonic() > deadline:
                return self._hang(first if seen == self._begun else later)

    def close(self) -> None:
        """End the process and everything it started."""
        self._connection.close()
        end_session(self._process)
        self._output.close()
        self._board.close()

    def _death(self) -> Death:
        # The socket may be closed a moment before the process is gone, or by the kernel.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        lost = code == DEVICE_LOST
        return self._report("made the CUDA device unusable" if lost else ending(code))

    def _hang(self, limit: float) -> Death:
        self._process.send_signal(signal.SIGUSR1)  # faulthandler prints where it is
        time.sleep(0.2)
        return self._report(f"{_HUNG}: no new case within {limit:g} s")

    def _report(self, reason: str) -> Death:
        self._drain()
        begun = self._board.begun - self._begun
        case = Case.parse(self._board.case) if begun else None
        return Death(reason, case, begun, _readable(self._tail.decode(errors="replace")))

    def _drain(self) -> bool:
        """Take what was printed; False when there will be no more."""
        for _ in range(64):  # and not until it is silent: a kernel may print for ever
            try:
                chunk = os.read(self._output.fileno(), 65536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._tail = (self._tail + chunk)[-_TAIL:]
        return True


def _environment(mode: str) -> dict[str, str]:
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    if mode == "interpret":
        environment["TRITON_INTERPRET"] = "1"
    # One thread: several workers share the machine (pytest-xdist), and results must not depend on
    # threads.  A check that needs two asks torch for them.
    return (
        environment
        | limited_to(1)
        | {
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
            "PYTHONUNBUFFERED": "1",  # or the last words of a process that dies are lost
        }
    )


def _readable(output: str) -> str:
    """The end of what a process printed; of faulthandler's traceback the kernel's frames."""
    printed, marker, trace = output.rpartition("(most recent call first):")
    if not marker:
        return _shortened(trace, 0, _LINES)
    runner = f'{os.sep}checking{os.sep}runner.py"'
    frames = takewhile(lambda line: runner not in line, trace.strip("\n").splitlines())
    shown = _shortened("\n".join(frames), _LINES // 4, _LINES // 2)
    return f"{_shortened(printed, 0, _LINES // 2)}{marker}\n{shown}"


def _shortened(text: str, first: int, last: int) -> str:
    lines = [line[:_WIDTH] for line in text.strip("\n").splitlines()]
    if len(lines) > first + last:
        lines = [*lines[:first], "  ...", *lines[len(lines) - last :]]
    return "\n".join(lines)
