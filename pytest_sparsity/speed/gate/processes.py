"""The parent's side of ``worker.py``: processes that time kernels, and contenders in them."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pytest_sparsity.core.signals import end_session, ending
from pytest_sparsity.core.threads import limited_to
from pytest_sparsity.speed.gate import worker
from pytest_sparsity.speed.gate.worker import ClockError

#: Threads of each process, wherever a library asks for a number.
THREADS = 1
#: Seconds after which an answer is no longer waited for: kernels may be compiled before it.
PATIENCE = 600.0
_LAST_BYTES = 2000


class WorkerError(Exception):
    """A contender raised an exception, or its process ended; ``details`` is its traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Place:
    """Where a process imports from.

    Attributes:
        path: entries of ``sys.path`` before Python's own, in order.
        moved: folders of this process, each with the folder that stands for it there, in the
            worktree of a revision.
    """

    path: tuple[str, ...]
    moved: tuple[tuple[str, str], ...] = ()

    @classmethod
    def here(cls) -> Place:
        """Where this process imports from."""
        return cls(tuple(entry or os.getcwd() for entry in sys.path))

    def file(self, file: str) -> str:
        """The path in that place for a file or folder of this process."""
        found = os.path.realpath(file)
        for ours, theirs in self.moved:
            if found == ours or found.startswith(ours + os.sep):
                return theirs + found[len(ours) :]
        return found


class Process:
    """One process that times kernels.  Close it; at the latest it ends when this process does."""

    def __init__(self, place: Place) -> None:
        self.place = place
        ours, theirs = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with theirs:
            numbers = (theirs.fileno(), os.getpid(), THREADS)
            self._process = subprocess.Popen(
                [sys.executable, worker.__file__, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                env=_environment(place.path),
                start_new_session=True,  # Ctrl-C is for the parent, which then closes this
            )
        self._connection = Connection(ours.detach())

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of ``worker.Kernels`` in the process, and return its result.

        Raises:
            WorkerError: the kernel raised an exception, crashed or hung; the latter two end
                the process.
            ClockError: the clock went backwards there.
        """
        try:
            self._connection.send_bytes(pickle.dumps((method, *arguments)))
            if not self._connection.poll(PATIENCE):
                self.close()
                raise WorkerError(f"gave no answer for {PATIENCE:g} s")
            status, answer = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorkerError(self._ending(), self._last_words()) from error
        except BaseException:  # Ctrl-C: the answer would be taken for that of the next question
            self.close()
            raise
        if status == "raised":
            raise WorkerError(*answer)
        if status == "clock":
            raise ClockError(answer)
        return answer

    @property
    def alive(self) -> bool:
        """Whether it runs and answers requests."""
        return not self._connection.closed and self._process.poll() is None

    def close(self) -> None:
        """End it, and everything it started; a second call does nothing."""
        self._connection.close()
        end_session(self._process)
        self._output.close()

    def _ending(self) -> str:
        if self._connection.closed:
            return "has ended"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        return ending(self._process.returncode)

    def _last_words(self) -> str:
        if self._output.closed:
            return ""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LAST_BYTES))
        return self._output.read().decode(errors="replace")


@dataclass(frozen=True)
class Remote:
    """A contender in another process."""

    process: Process
    name: str

    def sample(self, iterations: int) -> float:
        """Seconds of one call, as the mean of ``iterations``."""
        seconds: float = self.process.ask("sample", self.name, iterations)
        return seconds


class Processes:
    """The processes of a session: kept from kernel to kernel, since each takes seconds to start."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Place, int], Process] = {}

    def get(self, place: Place, index: int = 0) -> Process:
        """The ``index``-th process of a place, started if it is not there (any more)."""
        key = (place, index)
        if key in self._kept and not self._kept[key].alive:
            self._kept.pop(key).close()
        if key not in self._kept:
            self._kept[key] = Process(place)
        return self._kept[key]

    def fresh(self, place: Place, index: int = 0) -> Process:
        """Like :meth:`get`, but a new process takes the place of an old one."""
        if (old := self._kept.pop((place, index), None)) is not None:
            old.close()
        return self.get(place, index)

    def close(self) -> None:
        """End all of them."""
        while self._kept:
            self._kept.popitem()[1].close()


def _environment(path: Sequence[str]) -> Mapping[str, str]:
    # Kernels are timed as they run, not interpreted.
    kept = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    own = {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",  # a worktree is left as it was
        "PYTHONSAFEPATH": "1",
    }
    return kept | limited_to(THREADS) | own


def folder_of(file: str) -> Path:
    """The folder that a file really lies in."""
    return Path(os.path.realpath(file)).parent
