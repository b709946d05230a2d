"""The history file: one line of JSON per run, appended whole or not at all."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import atomic_write, locked

SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        when: ISO time of its end, UTC.
        target: fingerprint of the machine; runs of two machines are of two series.
        device: the machine's own name.
        profile: how much was measured; runs of two profiles are of two series.
        versions: of this package and of those that numbers depend on.
        revision: the git commit, with a ``+`` where files were changed since; None outside git.
        seconds: best seconds of one call, by benchmark id.
        metrics: by cell id, then by metric, its value.
    """

    when: str
    target: str
    device: str
    profile: str
    versions: Mapping[str, str | None]
    revision: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def append(path: Path, entry: Entry) -> None:
    """Add a run to the file, which is made if it is missing.

    What a killed process left of a last line is dropped; everything else stays as it is.

    Raises:
        SparsityError: the file cannot be read or written, is damaged, or is of a newer version.
    """
    line = json.dumps({"schema": SCHEMA, **asdict(entry)}, sort_keys=True, allow_nan=False)
    with locked(path.with_name(f".{path.name}.lock")):
        lines, _ = _lines(path)
        atomic_write(path, "".join(f"{kept}\n" for kept in (*lines, line)))


def read(path: Path) -> list[Entry]:
    """Every run, in the order of the file.

    A last line that is incomplete is left out with a warning.

    Raises:
        SparsityError: the file is missing, damaged before its end, or of a newer version.
    """
    if not path.exists():
        raise _bad(path, "there is no such file; a sweep with --sparsity-history makes it")
    lines, entries = _lines(path)
    if not lines:
        raise _bad(path, "it holds no run")
    return entries


def check_appendable(path: Path) -> None:
    """Find out before a long run whether :func:`append` will work.

    Raises:
        SparsityError: it will not.
    """
    _lines(path)


def _lines(path: Path) -> tuple[list[str], list[Entry]]:
    """The lines that hold runs, and the runs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(_entry(path, number, json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number < len(lines):
                raise _bad(path, f"line {number} is damaged ({error}); remove it") from error
            warnings.warn(
                SparsityWarning(f"{path}: the last line is incomplete and left out ({error})"),
                stacklevel=3,
            )
            return lines[:-1], entries
    return lines, entries


def _entry(path: Path, number: int, content: Any) -> Entry:
    schema = content.pop("schema", None)
    if isinstance(schema, int) and schema > SCHEMA:
        raise _bad(
            path,
            f"line {number} has schema {schema} and this version reads {SCHEMA}; it was written "
            "by a newer pytest-sparsity, install that one",
        )
    if schema != SCHEMA:
        raise ValueError(f"schema is {schema!r}")
    entry = Entry(**content)
    values = [*entry.seconds.values(), *(v for m in entry.metrics.values() for v in m.values())]
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    return entry


def _bad(path: Path, what: str) -> SparsityError:
    return SparsityError(f"--sparsity-history {path}: {what}")
