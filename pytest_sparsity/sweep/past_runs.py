"""The records of earlier runs, looked at without a model and without writing anything."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.statistics import Influence
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.influences import influences
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.store import FILE

#: Parts of a key that two cells of one run have in common, whatever is measured.
_OF_RUN = ("dtype", "target", "seed", "data", "versions", "code")


@dataclass(frozen=True)
class PastRuns:
    """Records by cell, each in the runs that it may be compared within.

    Attributes:
        records: per cell, by what the records of one run have in common; the last run comes last.
    """

    records: Mapping[Cell, Mapping[str, Record]]

    def latest(self, cell: Cell) -> Record | None:
        """The record of ``cell`` in the last run that measured it."""
        found = list(self.records.get(cell, {}).values())
        return found[-1] if found else None

    def influences(self, cell: Cell) -> dict[str, Influence]:
        """Every metric of ``cell`` in the last run that measured it beside dense.

        None of a cell whose records hold what no evaluation gives; a warning says so.
        """
        for run, record in reversed(list(self.records.get(cell, {}).items())):
            dense = self.records.get(cell.dense, {}).get(run)
            if dense is None:
                continue
            off = self.records.get(cell.without_spon, {}).get(run)
            without = off if cell.configuration.spon != OFF else None
            try:
                return influences(record, dense, without)
            except (ArithmeticError, KeyError, TypeError, ValueError) as error:
                warnings.warn(
                    f"what is stored of {cell.id} is damaged ({error}), and is not counted with",
                    SparsityWarning,
                    stacklevel=2,
                )
        return {}


def past_runs(folder: Path) -> PastRuns:
    """The records of a report folder or stored run; none where there is no such folder.

    Raises:
        SparsityError: the records are there and cannot be read.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return PastRuns({})
    except OSError as error:
        raise SparsityError(
            f"--sparsity-plan: {path} cannot be read ({error.strerror}); name another folder with "
            "--sparsity-report or --sparsity-baseline"
        ) from error
    lines = content.splitlines()
    records = list(_records(lines))
    if unread := len(lines) - len(records):
        warnings.warn(
            f"{path}: {unread} lines are damaged or of another version, and are not counted with",
            SparsityWarning,
            stacklevel=2,
        )
    return PastRuns(_by_cell(records))


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    for line in lines:
        try:
            yield Record.from_json(line.decode())
        except ValueError:  # damaged, incomplete or of another version
            continue


def _by_cell(records: Iterable[Record]) -> dict[Cell, dict[str, Record]]:
    found: dict[Cell, dict[str, Record]] = {}
    for record in records:
        of_cell, run = found.setdefault(record.cell, {}), _run(record.key)
        before = of_cell.pop(run, None)
        fuller = before is None or len(record.units) >= len(before.units)
        of_cell[run] = record if fuller or before is None else before
    return found


def _run(key: Mapping[str, Any]) -> str:
    return json.dumps({name: key.get(name) for name in _OF_RUN}, sort_keys=True)
