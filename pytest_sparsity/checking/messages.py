"""What the test run and its workers tell each other; see ``pool.py`` and ``worker.py``."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.checking.case import Case

#: Exit status of a worker whose CUDA device fails every call since a kernel's error.
DEVICE_LOST = 86

_HEADER = struct.Struct("QQ")
_BOARD_SIZE = 16384


@dataclass(frozen=True)
class Request:
    """One check of one kernel.

    Attributes:
        kernel: its id.
        module: name of the module that registered it.
        file: the file of that module.
        modules: files (``.../conftest.py``) or dotted names to import before.
        check: name in ``checks.CHECKS``.
        examples: how many cases are drawn.
        seed: of the drawing.
        case: the one case to check instead.
        after: cases to run before it.
        op: name and file of the module that defines the kernel's op, of ops of others.
    """

    kernel: str
    module: str
    file: str
    modules: tuple[str, ...]
    check: str
    examples: int
    seed: int
    case: Case | None
    op: tuple[str, str] | None = None
    after: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A request could not be carried out, and no kernel is to blame.

    Attributes:
        message: what was wrong.
        mendable: it was a ``SparsityError``, a user's mistake; else ``message`` is the traceback
            of a defect.
    """

    message: str
    mendable: bool


class Board:
    """Where a worker writes the case it is in, for the parent to read when the worker is gone.

    A shared mapping of a small file: what was written survives the death of the writer, and
    costs less than a message.  Layout: number of cases begun, length of the text, the text.
    """

    def __init__(self, descriptor: int) -> None:
        os.truncate(descriptor, _BOARD_SIZE)
        self._memory = mmap.mmap(descriptor, _BOARD_SIZE)

    def write(self, case: str) -> None:
        """Say that ``case`` begins."""
        text = case.encode()[: _BOARD_SIZE - _HEADER.size]
        self._memory[_HEADER.size : _HEADER.size + len(text)] = text
        _HEADER.pack_into(self._memory, 0, self.begun + 1, len(text))

    @property
    def begun(self) -> int:
        """How many cases began since the worker was started."""
        return int(_HEADER.unpack_from(self._memory)[0])

    @property
    def case(self) -> str:
        """The case that began last; empty if none did."""
        length = _HEADER.unpack_from(self._memory)[1]
        return self._memory[_HEADER.size : _HEADER.size + length].decode(errors="replace")

    def close(self) -> None:
        """Give the mapping back."""
        self._memory.close()
