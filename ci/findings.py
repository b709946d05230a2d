"""Writes docs/findings.md and its figures from the findings of one or several runs.

    python ci/findings.py REPORT_DIR [REPORT_DIR ...]

REPORT_DIR is the report folder of a run with ``--sparsity-suite=claims``: one run per model, or
several of a model with different seeds.  What ci/spon_trials.py tried is told beside them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_sparsity.claims.page import page
from pytest_sparsity.claims.runs import read_runs
from pytest_sparsity.claims.trials import read_trials
from pytest_sparsity.errors import SparsityError
from pytest_sparsity.files import atomic_write

_DOCS = Path(__file__).parents[1] / "docs"
_FIGURES = "findings"
_TRIALS = "trials.jsonl"


def main(arguments: list[str]) -> int:
    """Write the page; one sentence and status 1 if it cannot be made."""
    parser = argparse.ArgumentParser(description="Write docs/findings.md and its figures.")
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT_DIR")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder that is written to")
    parser.add_argument(
        "--trials",
        type=Path,
        metavar="FILE",
        help=f"what ci/spon_trials.py wrote (default: {_FIGURES}/{_TRIALS} of the folder above)",
    )
    given = parser.parse_args(arguments)
    usual = given.docs / _FIGURES / _TRIALS
    try:
        runs = read_runs(given.reports)
        trials = read_trials(given.trials or usual) if given.trials or usual.exists() else []
        made = page(runs, _FIGURES, trials)
        for name, content in made.figures.items():
            atomic_write(given.docs / _FIGURES / name, content)
        atomic_write(given.docs / "findings.md", made.markdown)
    except SparsityError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print(f"{given.docs / 'findings.md'} and {len(made.figures)} figures")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
