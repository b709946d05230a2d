"""A part of the work on a device, and how parts are gone through: kept, skipped, in time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_sparsity.cli.device.runner import Finished, Runner
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write, sha256_text

#: What a part found, as plain JSON; ``status`` is ``passed``, ``failed``, ``skipped`` or, of one
#: that only measures what others use, ``measured``.
Result = dict[str, Any]
STATUSES = ("passed", "failed", "skipped", "measured")


class Unfinished(Exception):
    """A part that came to no result, and is run again the next time."""


@dataclass(frozen=True)
class Part:
    """One step, small enough that a short loan of a device is enough for several.

    Attributes:
        name: in words.
        seconds: that it takes at most, as far as is known; it is not begun with less.
        run: from the machine, the results of earlier parts by name, and the seconds that are left
            for it, to its result.  It raises ``Unfinished`` if it has none.
        needs: names of parts without whose results it cannot be run.
    """

    name: str
    seconds: float
    run: Callable[[Runner, Mapping[str, Result], float], Result]
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class Store:
    """Results of parts, in a file each, which says in its key what it is a result of.

    Attributes:
        folder: made if it is missing.
        key: everything that makes an earlier result worth keeping: device, versions, sources.
    """

    folder: Path
    key: Mapping[str, Any]

    def read(self, part: Part) -> Result | None:
        """The result of a part under this key, or None; a damaged file is no result."""
        try:
            kept = json.loads(self._path(part).read_text(encoding="utf-8"))
            if kept["key"] != self.key or kept["result"]["status"] not in STATUSES:
                return None
            result: Result = kept["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result

    def write(self, part: Part, result: Result) -> None:
        """Keep a result."""
        text = json.dumps({"key": self.key, "part": part.name, "result": result}, indent=1)
        atomic_write(self._path(part), text + "\n")

    def _path(self, part: Part) -> Path:
        words = "-".join("".join(c if c.isalnum() else " " for c in part.name).split())
        return self.folder / f"{words}-{sha256_text(part.name)[:6]}.json"


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        results: of parts that are done, by name, now or earlier.
        left: name of each other part to why it was not done.
    """

    results: dict[str, Result] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def go_through(
    parts: Sequence[Part],
    runner: Runner,
    store: Store,
    seconds: float,
    clock: Callable[[], float],
    say: Callable[[str], None],
) -> Progress:
    """Run the parts that are not done, in their order, as far as the time goes.

    A part that does not fit into what is left of the time is left out, and smaller ones after it
    are still run.  Results are written as soon as there are any.

    Args:
        parts: what is to be done; names differ.
        runner: the machine.
        store: results of earlier times, and for those of this one.
        seconds: that all of it may take.
        clock: seconds that only grow.
        say: takes a line about each part.
    """
    end = clock() + seconds
    found = Progress()
    for part in parts:
        result = store.read(part)
        if result is not None:
            found.results[part.name] = result
            say(f"{part.name}: {result['status']} before")
            continue
        missing = [name for name in part.needs if name not in found.results]
        rest = end - clock()
        if missing:
            found.left[part.name] = f"needs {', '.join(missing)}"
        elif rest < part.seconds:
            found.left[part.name] = (
                f"takes up to {part.seconds:.0f} s, and {max(rest, 0):.0f} are left"
            )
        else:
            began = clock()
            try:
                result = part.run(runner, found.results, rest)
            except Unfinished as reason:
                found.left[part.name] = str(reason)
            else:
                store.write(part, result)
                found.results[part.name] = result
                say(f"{part.name}: {result['status']} in {clock() - began:.0f} s")
                continue
        say(f"{part.name}: not done, {found.left[part.name]}")
    return found


def lines(finished: Finished, what: str) -> list[Result]:
    """The JSON objects that a command printed, one a line.

    Raises:
        Unfinished: it did not end well, or in time.
    """
    if finished.code is None:
        raise Unfinished(f"{what} was stopped at its limit")
    if finished.code:
        last = (finished.output.strip().splitlines() or ["it said nothing"])[-1]
        raise Unfinished(f"{what} ended with exit code {finished.code}: {last}")
    return [json.loads(line) for line in finished.output.splitlines() if line.startswith("{")]


def read_lines(path: Path, option: str) -> list[Result]:
    """The JSON objects in a file of results, one a line.

    Raises:
        SparsityError: it is not such a file.
    """
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(each, dict) for each in found):
            raise ValueError("a line is no object")
    except (OSError, ValueError) as error:
        raise SparsityError(
            f"{option} {path} cannot be read ({error}); give the file of a report folder"
        ) from error
    return found
