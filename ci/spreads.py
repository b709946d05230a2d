"""Write what --sparsity-plan knows of the default model: ``python ci/spreads.py REPORT_DIR``.

REPORT_DIR is of ``pytest --sparsity-sweep --sparsity-suite=accuracy``.  Kept is, per metric and
cell, what every document and item adds to the estimate, in suites/accuracy/spreads.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.sweep.known_spreads import to_json
from pytest_sparsity.sweep.past_runs import past_runs
from pytest_sparsity.targets import host_target

FILE = Path(__file__).parents[1] / "suites" / "accuracy" / "spreads.json"


def main(arguments: Sequence[str]) -> int:
    """Write the file; the exit status."""
    parser = argparse.ArgumentParser(prog="ci/spreads.py", description=(__doc__ or "").strip())
    parser.add_argument("report", type=Path, metavar="REPORT_DIR")
    folder: Path = parser.parse_args(arguments).report
    runs, target = past_runs(folder), host_target()
    cells = [cell for cell in runs.records if not cell.configuration.is_reference]
    latest = [record for cell in cells if (record := runs.latest(cell)) is not None]
    if not latest:
        parser.error(f"{folder} holds no records of sparse cells; name the folder of a sweep")
    if {record.key["target"] for record in latest} != {target.fingerprint}:
        parser.error(f"{folder} was measured on another machine, whose name is not known here")
    about = {
        "machine": target.name,
        "when": max(record.when for record in latest)[:10],
        "command": "pytest --sparsity-sweep --sparsity-suite=accuracy",
        "versions": latest[0].key["versions"],
        "dtype": latest[0].key["dtype"],
        "seed": latest[0].key["seed"],
    }
    measured = [
        (cell, metric, influence)
        for cell in cells
        for metric, influence in runs.influences(cell).items()
    ]
    try:
        atomic_write(FILE, to_json(measured, about))
    except (SparsityError, ValueError) as error:
        parser.error(str(error))
    print(f"wrote {len(measured)} metrics of {len(cells)} cells to {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
