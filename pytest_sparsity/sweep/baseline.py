"""The records of a stored run, read strictly: a damaged baseline is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write, locked
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.record import SCHEMA, ForeignRecord, Record, right_field
from pytest_sparsity.sweep.store import FILE


def read_records(
    folder: Path,
    option: str = "--sparsity-baseline",
    again: str = "make it again with --sparsity-update",
) -> dict[Cell, Record]:
    """The last record of every cell of a stored run, by cell; empty without a records file.

    A report folder is such a folder.  Unlike a run that is resumed, a baseline is not mended: a
    line that was lost would be a cell that is no longer gated.

    Args:
        folder: of the stored run.
        option: what named it, for messages.
        again: how to make it again, for messages.

    Raises:
        SparsityError: the folder is missing, or its file is truncated, foreign or of a newer
            version.
    """
    path = folder / FILE
    if not folder.is_dir():
        fix = again.replace(" again", "")
        raise SparsityError(f"{option} {folder}: there is no such folder; {fix}")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SparsityError(
            f"{option} {path}: cannot be read ({error.strerror}); fix its permissions"
        ) from error
    if not content:
        raise SparsityError(f"{option} {path}: it is empty; {again}")
    if not content.endswith(b"\n"):
        raise SparsityError(f"{option} {path}: its last line is incomplete; {again}")
    found: dict[Cell, Record] = {}
    for number, line in enumerate(content.splitlines(), 1):
        record = _record(f"{option} {path}: line {number}", line, again)
        found[record.cell] = record
    return found


def write_records(folder: Path, records: Iterable[Record], *, new_only: bool = False) -> int:
    """Store records as the baseline in ``folder``; what it holds of other cells is kept.

    Args:
        folder: made if it is missing.
        records: of this run.
        new_only: keep the stored record of a cell that has one.

    Returns:
        How many records were stored.

    Raises:
        SparsityError: the folder cannot be written, or what it holds is damaged; it is then
            left as it is.
    """
    with locked(folder / ".records.lock"):
        stored = read_records(folder)
        fresh = {r.cell: r for r in records if not (new_only and r.cell in stored)}
        if fresh:
            lines = [record.to_json() for _, record in sorted({**stored, **fresh}.items())]
            atomic_write(folder / FILE, "\n".join(lines) + "\n")
    return len(fresh)


def _record(where: str, line: bytes, again: str) -> Record:
    try:
        content = json.loads(line)
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise SparsityError(
                f"{where} has schema {schema} and this version reads {SCHEMA}; it was written by "
                "a newer pytest-sparsity, install that one"
            )
        record = Record.from_json(line.decode())
        _check_values(record)
    except ForeignRecord as error:
        raise SparsityError(
            f"{where} is no record of pytest-sparsity ({error}); name another folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SparsityError(f"{where} is damaged ({error}); {again}") from error
    return record


def _check_values(record: Record) -> None:
    """Look at every number that the gate will use.

    Raises:
        ValueError: a value is not what it must be.
        KeyError: one is missing.
        TypeError: one is of another type.
    """
    for unit in record.units:
        if record.cell.kind == PERPLEXITY:
            numbers = [*unit["log_likelihoods"], unit["tokens"]]
            good = unit["tokens"] > 0
        elif record.cell.kind == GENERATION:
            numbers = [unit["tokens"], unit["first_divergence"] or 0]
            good = unit["tokens"] > 0
        elif record.cell.kind == DIVERGENCE:
            numbers = [unit["reasoning"]["kl"], unit["tokens"]]
            good = unit["tokens"] > 0
        else:
            numbers = []
            good = isinstance(unit[right_field(record.measured)], bool)
        if wrong := [number for number in numbers if not math.isfinite(number)]:
            raise ValueError(f"unit {unit.get('id')!r} has the impossible value {wrong[0]}")
        if not (good and isinstance(unit["id"], str)):
            raise ValueError(f"unit {unit.get('id')!r} has an impossible value")
