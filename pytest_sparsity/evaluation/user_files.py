"""Names and files that a user gives where a bundled corpus or task could stand."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import no_repeats


def is_path(name: str) -> bool:
    """Whether ``name`` means a file of the user rather than a bundled name."""
    return name.endswith((".txt", ".jsonl")) or "/" in name or os.sep in name


def unknown_name(what: str, name: str, known: Iterable[str], files: str) -> SparsityError:
    """The error for a name that is neither bundled nor a file; ``files``: the suffixes allowed."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f", did you mean {close[0]!r}?" if close else ";"
    return SparsityError(
        f"unknown {what} {name!r}{guess} known are {', '.join(names)}, and paths of {files} files"
    )


def user_stem(path: Path, what: str, bundled: Iterable[str]) -> str:
    """The name under which results of the user's file are reported: its stem.

    Raises:
        SparsityError: the stem is a bundled name, so that results would be confused.
    """
    if path.stem in bundled:
        raise SparsityError(
            f"the {what} file {path} has the name of the bundled {what} {path.stem!r}; rename it"
        )
    return path.stem


def read_text(path: Path, what: str) -> str:
    """The UTF-8 text of a ``what`` ("corpus", "task") file, with line feeds for newlines.

    Raises:
        SparsityError: the file is missing, unreadable, not UTF-8, or has no text in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SparsityError(f"{what} file {path} does not exist; check the path") from None
    except OSError as error:
        raise SparsityError(f"cannot read {what} file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SparsityError(
            f"{what} file {path} is not UTF-8 text (byte {error.start}); convert it to UTF-8"
        ) from error
    if not text.strip():
        raise SparsityError(f"{what} file {path} is empty; choose another file")
    return text


def json_objects(path: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with its place ("FILE line 3") for messages.

    Raises:
        SparsityError: as :func:`read_text`, or a line that is not a JSON object.
    """
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{what} file {path} line {number}"
        try:
            value = json.loads(line, object_pairs_hook=no_repeats)
        except ValueError as error:
            raise SparsityError(f"{place} is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise SparsityError(f"{place} is not a JSON object but {type(value).__name__}")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair, such as a cut emoji
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise SparsityError(f"{place} has {half}, which is no character; remove it") from error
        yield place, value
