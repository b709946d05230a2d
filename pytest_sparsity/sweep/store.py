"""records.jsonl: one line per measured cell, appended as cells finish; a killed run loses none."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import append_line, atomic_write, check_writable, locked
from pytest_sparsity.sweep.record import ForeignRecord, Record

FILE = "records.jsonl"


class RecordStore:
    """The records of one report folder, shared by all processes and threads that measure into it.

    A process killed while it writes leaves at most one incomplete last line, which the
    next writer cuts off and every reader ignores.

    Raises:
        SparsityError: the folder cannot be written, or its records are of another schema.
    """

    folder: Path
    path: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self._reading = threading.Lock()
        self._records: dict[str, Record] = {}
        self._read = 0  # bytes
        self._lines = 0
        if not (folder / ".gitignore").exists():
            atomic_write(folder / ".gitignore", "*\n")
        else:
            check_writable(folder)
        self.refresh()

    def find(self, id: str) -> Record | None:
        """The record with this id, whoever wrote it; the one with most data if several."""
        self.refresh()
        return self._records.get(id)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))  # another thread may add to them

    def claim(self, id: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the right to measure ``id``; other processes wait and then find the record.

        Raises:
            InUse: another process holds it, and ``wait`` is False.
        """
        return locked(self.folder / ".locks" / f"{id}.lock", wait=wait)

    def append(self, record: Record) -> None:
        """Write one record, whole or not at all.

        Raises:
            SparsityError: it cannot be written; what was there before is kept.
        """
        append_line(self.path, record.to_json())
        self.refresh()

    def refresh(self) -> None:
        """Read what has been appended since the last look.

        Raises:
            SparsityError: the file cannot be read, or a record has another schema.
        """
        with self._reading:
            self._refresh()

    def _refresh(self) -> None:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                fresh = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SparsityError(
                f"cannot read {self.path}: {error.strerror}; fix its permissions or choose "
                "another folder with --sparsity-report"
            ) from error
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(complete)
        damaged = []
        for line in complete.split(b"\n")[:-1]:
            self._lines += 1
            try:
                self._take(Record.from_json(line.decode()))
            except ForeignRecord as error:
                raise SparsityError(
                    f"{self.path} line {self._lines} was written by another version ({error}); "
                    "choose another folder with --sparsity-report or move this file away"
                ) from error
            except ValueError:
                damaged.append(str(self._lines))
        if damaged:
            warnings.warn(
                SparsityWarning(
                    f"{self.path} is damaged in line {', '.join(damaged)}: ignored, and what was "
                    "there is measured again"
                ),
                stacklevel=2,
            )

    def _take(self, record: Record) -> None:
        known = self._records.get(record.id)
        if known is None or len(record.units) >= len(known.units):
            self._records[record.id] = record
