"""For readers of results: what a report folder holds, typed, and strict about versions.

    from pytest_sparsity.results import read_records, read_metrics

Nothing is written, and nothing heavy is imported beside numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_sparsity.claims.finding import ClaimVerdict, Effect, Finding
from pytest_sparsity.claims.store import stored
from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.reporting import gate, kernels, summary
from pytest_sparsity.reporting.stored import Gate, GateDecision, Metric, StoredCheck
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.record import ForeignRecord, Record
from pytest_sparsity.sweep.store import FILE as RECORDS
from pytest_sparsity.sweep.verdict import Outcome, Verdict

__all__ = [
    "Budget",
    "Cell",
    "ClaimVerdict",
    "Comparison",
    "Configuration",
    "Decision",
    "Effect",
    "Evidence",
    "Finding",
    "Gate",
    "GateDecision",
    "Interval",
    "Metric",
    "Outcome",
    "Record",
    "StoredCheck",
    "Verdict",
    "read_checks",
    "read_findings",
    "read_gate",
    "read_metrics",
    "read_records",
]

T = TypeVar("T")


def read_records(folder: Path | str) -> tuple[Record, ...]:
    """The records of a report folder, of each cell and key the one with most data.

    A last line that was cut off by a crash is left out.

    Raises:
        SparsityError: there are none, or a line is damaged or of another version.
    """
    path = Path(folder) / RECORDS
    found: dict[str, Record] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            record = Record.from_json(line)
        except ForeignRecord as error:
            raise _foreign(path, f"line {number}: {error}") from error
        except ValueError as error:
            raise SparsityError(f"{path} line {number} is damaged ({error})") from error
        known = found.get(record.id)
        if known is None or len(known.units) <= len(record.units):
            found[record.id] = record
    return tuple(found.values())


def read_metrics(folder: Path | str) -> tuple[Metric, ...]:
    """The metrics and verdicts in the summary of a sweep.

    Raises:
        SparsityError: there is no summary, or it is damaged or of another version.
    """
    path = Path(folder) / summary.JSON
    return _read(path, summary.SCHEMA, lambda content: tuple(map(Metric.of, content["metrics"])))


def read_findings(folder: Path | str) -> tuple[Finding, ...]:
    """The findings about claims in a report folder, the last one of every claim and model.

    Raises:
        SparsityError: there are none, or a line is damaged or of another version.
    """
    return tuple(each.finding for each in stored(Path(folder)))


def read_gate(folder: Path | str) -> Gate:
    """What the gate decided in the run of a report folder.

    Raises:
        SparsityError: nothing was gated, or the file is damaged or of another version.
    """

    def read(content: Mapping[str, Any]) -> Gate:
        return Gate(
            mode=content["gate"],
            against=content["against"],
            decisions=tuple(map(GateDecision.of, content["decisions"])),
            without_baseline=tuple(content["without_baseline"]),
        )

    return _read(Path(folder) / gate.FILE, gate.SCHEMA, read)


def read_checks(folder: Path | str) -> tuple[StoredCheck, ...]:
    """What the checks of kernels came to in the run of a report folder.

    Raises:
        SparsityError: no kernel was checked, or a line is damaged or of another version.
    """
    path = Path(folder) / kernels.FILE
    return tuple(
        _parsed(path, f" line {number}", line, kernels.SCHEMA, StoredCheck.of)
        for number, line in enumerate(_lines(path), 1)
    )


def _read(path: Path, schema: int, read: Callable[[Mapping[str, Any]], T]) -> T:
    return _parsed(path, "", _text(path), schema, read)


def _parsed(
    path: Path, place: str, text: str, schema: int, read: Callable[[Mapping[str, Any]], T]
) -> T:
    """What ``read`` makes of the JSON in ``text``, which must be of this version."""
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        if content.get("schema") != schema:
            raise _foreign(path, f"schema {content.get('schema')!r}, not {schema}")
        return read(content)
    except (KeyError, TypeError, ValueError) as error:
        raise SparsityError(
            f"{path}{place} is damaged ({type(error).__name__}: {error})"
        ) from error


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; what a crash cut off is none."""
    return _text(path).split("\n")[:-1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SparsityError(
            f"cannot read {path}: {error.strerror}; name the report folder of a run that has one"
        ) from error
    except UnicodeDecodeError as error:
        raise SparsityError(f"{path} is damaged ({error})") from error


def _foreign(path: Path, what: str) -> SparsityError:
    return SparsityError(
        f"{path} was written by another version ({what}); read it with that version"
    )
