"""Writes docs/findings.md and docs/question.md from the findings of one or several runs.

    python ci/findings.py REPORT_DIR [REPORT_DIR ...]

REPORT_DIR is the report folder of a run with ``--sparsity-suite=claims``: one run per model, or
several of a model with different seeds.  A page that none of them is about is left as it is.  What
ci/spon_trials.py tried is told beside the claims.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_sparsity.claims.catalog import CLAIMS
from pytest_sparsity.claims.page.page import Page, claims_page, judged, question_page
from pytest_sparsity.claims.page.runs import read_runs
from pytest_sparsity.claims.page.trials import read_trials
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write

_DOCS = Path(__file__).parents[1] / "docs"
_FIGURES = "findings"
_TRIALS = "trials.jsonl"


def main(arguments: list[str]) -> int:
    """Write the pages; one sentence and status 1 if one cannot be made."""
    parser = argparse.ArgumentParser(description="Write docs/findings.md and docs/question.md.")
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
        pages: dict[str, Page] = {}
        if about := judged(runs, CLAIMS):
            pages["findings.md"] = claims_page(about, trials)
        if about := judged(runs, QUESTION):
            pages["question.md"] = question_page(about, _FIGURES)
        for name, made in pages.items():
            for figure, content in made.figures.items():
                atomic_write(given.docs / _FIGURES / figure, content)
            atomic_write(given.docs / name, made.markdown)
    except SparsityError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    for name, made in pages.items():
        print(f"{given.docs / name} and {len(made.figures)} figures")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
