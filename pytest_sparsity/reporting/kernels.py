"""kernels.jsonl: what the checks of kernels came to, a line per kernel and check, the last one.

A run adds to the file, so that one of a part of the kernels leaves the others' lines, and so that
outcomes can stand for those that would come again (``key``, see ``checking/outcomes.py``).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import append_line, atomic_write, locked

FILE = "kernels.jsonl"
SCHEMA = 1

Line = Mapping[str, Any]


def add(folder: Path, origin: Line, results: Iterable[Line]) -> None:
    """Append results of checks to the file of a report folder.

    Args:
        folder: where the file is.
        origin: what makes results of two runs comparable, repeated in every line.
        results: as ``kernel_check`` sends them.

    Raises:
        NotWritten: it cannot be written.
    """
    for result in results:
        append_line(folder / FILE, json.dumps({"schema": SCHEMA, **origin, **result}))


def stored(folder: Path) -> dict[tuple[str, str], Line]:
    """The last line of every kernel and check; none of other versions, nor what is damaged.

    Raises:
        SparsityError: the file cannot be read.
    """
    return _last(_lines(folder / FILE)[0])


def tidy(folder: Path, keep: Callable[[str], bool] = lambda kernel: True) -> None:
    """Leave the last line of every kernel and check, and warn of lines that cannot be used.

    Args:
        folder: where the file is.
        keep: of which kernels.

    Raises:
        SparsityError: the file cannot be read or written.
    """
    path = folder / FILE
    if not path.exists():
        return
    with locked(folder / ".locks" / f"{path.stem}.lock"):  # that of append_line
        lines, damaged, foreign = _lines(path)
        last = [line for line in _last(lines).values() if keep(line["kernel"])]
        if len(last) < len(lines) or damaged or foreign:
            atomic_write(path, "".join(f"{json.dumps(line)}\n" for line in last))
    for numbers, what in (
        (damaged, "is damaged"),
        (foreign, f"was written by another version (its schema is not {SCHEMA})"),
    ):
        if numbers:
            shown = ", ".join(map(str, numbers[:5])) + (", ..." if numbers[5:] else "")
            warnings.warn(
                SparsityWarning(
                    f"{path} {what} in line {shown}: ignored, and those kernels are checked again"
                ),
                stacklevel=2,
            )


def _lines(path: Path) -> tuple[list[Line], list[int], list[int]]:
    """The lines of a file, and the numbers of those that are damaged and of another version."""
    try:
        whole = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        whole = []
    except OSError as error:
        raise SparsityError(
            f"cannot read {path}: {error.strerror}; fix its permissions or choose another folder "
            "with --sparsity-report"
        ) from error
    found, damaged, foreign = [], [], []
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
            if line["schema"] != SCHEMA:
                foreign.append(number)
                continue
            _ = line["kernel"] + line["check"] + line["status"]
        except (KeyError, TypeError, ValueError):
            damaged.append(number)
            continue
        found.append(line)
    return found, damaged, foreign


def _last(lines: Iterable[Line]) -> dict[tuple[str, str], Line]:
    return {(line["kernel"], line["check"]): line for line in lines}
