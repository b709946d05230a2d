"""speed.json: the times that later runs are compared with, and what makes them comparable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write, locked
from pytest_sparsity.speed.gate.result import Measured

FILE = "speed.json"
SCHEMA = 1
_ABOUT = "best: mean of the three fastest samples, seconds per call; spread: of the processes"


def read(path: Path) -> dict[str, Measured]:
    """The entries of a file, by id; none if there is no file.

    Raises:
        SparsityError: it cannot be read, is truncated or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _bad(path, f"is truncated, or no JSON ({error})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise _bad(path, "is no file of speeds: it has no schema")
    if schema > SCHEMA:
        raise _bad(path, f"has schema {schema}, of a later version; this one reads {SCHEMA}")
    entries = content.get("entries")
    if schema < 1 or not isinstance(entries, dict):
        raise _bad(path, "is no file of speeds: it has no entries")
    return {id: _entry(path, id, entry) for id, entry in entries.items()}


def add(path: Path, fresh: Mapping[str, Measured], keep: bool = False) -> None:
    """Put entries into a file, which is made if it is missing; others stay as they are.

    Args:
        path: the file.
        fresh: by id.
        keep: leave entries that are there as they are.

    Raises:
        SparsityError: the file holds something else, which is kept, or cannot be written.
    """
    with locked(path.parent / ".locks" / f"{path.name}.lock"):
        known = read(path)
        both = {**fresh, **known} if keep else {**known, **fresh}
        content = {
            "schema": SCHEMA,
            "about": _ABOUT,
            "entries": {id: _plain(both[id]) for id in sorted(both)},
        }
        atomic_write(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def obstacle(stored: Measured, now: Measured) -> str | None:
    """Why times cannot be compared; None if they can.

    A kernel of another source may be compared: that is what the gate is for.
    """
    for what, before, after in (
        ("the machine", (stored.device, stored.target), (now.device, now.target)),
        ("threads", stored.threads, now.threads),
        ("the case", stored.case, now.case),
        *(
            (f"{name}'s version", minor(stored.versions, name), minor(now.versions, name))
            for name in ("torch", "triton")
        ),
    ):
        if before != after:
            shown = (" ".join(map(str, x)) if isinstance(x, tuple) else x for x in (before, after))
            return "{} is another: stored {}, now {}".format(what, *shown)
    return None


def minor(versions: Mapping[str, str | None], name: str) -> str | None:
    """``2.13`` of ``2.13.0+cpu``."""
    version = versions.get(name)
    return None if version is None else ".".join(version.split("+")[0].split(".")[:2])


def _plain(entry: Measured) -> dict[str, Any]:
    timed = {"best": entry.best, "spread": entry.spread} if entry.seconds else {"best": None}
    return timed | entry.to_json()


def _entry(path: Path, id: str, content: Any) -> Measured:
    if not isinstance(content, dict):
        raise _bad(path, f"has an entry {id!r} that is no table")
    kept = {name: value for name, value in content.items() if name not in ("best", "spread")}
    try:
        found = Measured.from_json(kept)
        if not all(map(math.isfinite, found.seconds)):
            raise ValueError("it has times that are not finite")
    except (TypeError, ValueError) as error:
        raise _bad(path, f"has an entry {id!r} that cannot be read ({error})") from error
    return found


def _bad(path: Path, what: str) -> SparsityError:
    return SparsityError(f"{path} {what}; restore it, or move it away and measure again")
