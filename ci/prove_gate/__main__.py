"""Measure how often the gate is wrong, and write docs/gate.md: ``python ci/prove_gate``.

Takes some two hours on a machine that does nothing else meanwhile; an interrupted run goes on where
it ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import accuracy
import page
import speed

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.progress import on_stream
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.targets import host_target

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"
PARTS = ("speed", "accuracy", "page")


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, then write the page; the exit status."""
    parser = argparse.ArgumentParser(prog="ci/prove_gate", description=(__doc__ or "").strip())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--results", type=Path, default=Path("sparsity-report/gate"), metavar="DIR")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="of models and calibrations")
    options = parser.parse_args(arguments)
    parts = options.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(PARTS)}")
    results: Path = options.results
    try:
        machine = _machine(results)
    except SparsityError as error:
        parser.error(str(error))
    if "speed" in parts:
        speed.prove(results / "speed.jsonl", speed.WANTED, lambda line: print(line, flush=True))
    if "accuracy" in parts:
        accuracy.prove(results / "accuracy.jsonl", options.cache, on_stream(sys.stderr))
    if "page" in parts:
        text = page.page(
            machine, speed.rows(results / "speed.jsonl"), accuracy.rows(results / "accuracy.jsonl")
        )
        atomic_write(PAGE, text)
        print(f"wrote {PAGE}")
    return 0


def _machine(results: Path) -> dict[str, Any]:
    """Where and with what all of it was measured; noted when the first part is.

    Raises:
        SparsityError: the results are of another machine.
    """
    target = host_target()
    here = {
        "device": target.name,
        "cores": target.cores,
        "fingerprint": target.fingerprint,
        "versions": versions(),
    }
    path = results / "machine.json"
    if not path.exists():
        results.mkdir(parents=True, exist_ok=True)
        when = datetime.now(timezone.utc).date().isoformat()
        atomic_write(path, json.dumps(here | {"when": when}, indent=1) + "\n")
    found: dict[str, Any] = json.loads(path.read_text())
    if found["fingerprint"] != here["fingerprint"]:
        raise SparsityError(
            f"--results {results} were measured on another machine ({found['device']}); name "
            "another folder"
        )
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
