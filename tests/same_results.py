"""Holds two report folders against each other: did a change of the code change what is measured?

    python tests/same_results.py BEFORE AFTER

Compares, to the last digit: what every record measured (times, memory and keys apart), verdicts,
outcomes and tolerances of kernels' checks, and findings.  Prints every difference and ends with
status 1 if there is one.  Both runs must have had the same options on the same machine.  It stays
while code is moved that results depend on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What differs from run to run: when and how fast, and what names the code.
_VOLATILE = {
    *("cost", "key", "id", "when", "seconds", "peak_bytes", "versions", "code", "created"),
    *(
        "elapsed",
        "time",
        "duration",
        "record",
        "reused",
        "anew",
        "baseline_id",
        "dense_id",
        "records",
    ),
}


def steady(found: Any) -> Any:
    """The same without what differs from run to run, at any depth."""
    if isinstance(found, dict):
        return {name: steady(value) for name, value in found.items() if name not in _VOLATILE}
    if isinstance(found, list):
        return [steady(value) for value in found]
    return found


def records(folder: Path) -> dict[str, Any]:
    """Cell and seed to what was measured there."""
    return {
        f"record {json.dumps(each['cell'], sort_keys=True)} seed {each['key'].get('seed')}": steady(
            each["measured"]
        )
        for each in _lines(folder / "records.jsonl")
    }


def verdicts(folder: Path) -> dict[str, Any]:
    """What the summary says, without what the run's code and machine were doing."""
    path = folder / "summary.json"
    return {"summary": steady(json.loads(path.read_text()))} if path.exists() else {}


def kernels(folder: Path) -> dict[str, Any]:
    """Kernel and check to its outcome."""
    return {
        f"kernel {each['kernel']} {each['check']}": steady(each)
        for each in _lines(folder / "kernels.jsonl")
    }


def findings(folder: Path) -> dict[str, Any]:
    """Claim to its finding."""
    found = _lines(folder / "findings.jsonl")
    return {f"finding {each.get('claim', n)}": steady(each) for n, each in enumerate(found)}


def differences(before: Any, after: Any, where: str) -> Iterator[str]:
    """A line for every place in which two results differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys(), key=str):
            if name not in before:
                yield f"{where}: {name} is new"
            elif name not in after:
                yield f"{where}: {name} is gone"
            else:
                yield from differences(before[name], after[name], f"{where} / {name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{where} [{place}]")
    elif before != after:
        yield f"{where}: {_short(before)} became {_short(after)}"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def main(before: Path, after: Path) -> int:
    """Print what differs; 1 if anything does."""
    count = 0
    for read in (records, verdicts, kernels, findings):
        old, new = read(before), read(after)
        found = list(differences(old, new, read.__name__))
        print(f"{read.__name__}: {len(old)} before, {len(new)} after, {len(found)} differences")
        for line in found:
            print(f"  {line}")
        count += len(found)
    return int(count > 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
