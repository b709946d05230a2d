"""``pytest-sparsity findings``: pages about the findings of one or several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.files import atomic_write

SUMMARY = "write findings.md and question.md from the findings of one or several runs"
_FIGURES = "findings"
_TRIALS = "trials.jsonl"


def add_arguments(parser: Parser) -> None:
    """Where findings are, and where pages go."""
    parser.epilog = (
        "One run per model, or several of a model with different seeds. A page that none of them "
        "is about is left as it is."
    )
    parser.add_argument(
        "reports",
        nargs="+",
        type=Path,
        metavar="REPORT_DIR",
        help="report folder of a run with --sparsity-suite=claims",
    )
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--trials",
        type=Path,
        metavar="FILE",
        help="recipes for spontaneous neurons that were tried, told of beside the claims "
        f"(default: {_FIGURES}/{_TRIALS} of the folder above)",
    )


def run(given: argparse.Namespace) -> ExitCode:
    """Write the pages that the runs are about, each with its figures."""
    from pytest_sparsity.claims.catalog import CLAIMS
    from pytest_sparsity.claims.page.page import Page, claims_page, judged, question_page
    from pytest_sparsity.claims.page.runs import read_runs
    from pytest_sparsity.claims.page.trials import read_trials
    from pytest_sparsity.claims.question import QUESTION

    usual = given.docs / _FIGURES / _TRIALS
    runs = read_runs(given.reports)
    trials = read_trials(given.trials or usual) if given.trials or usual.exists() else []
    pages: dict[str, Page] = {}
    if about := judged(runs, CLAIMS):
        pages["findings.md"] = claims_page(about, trials)
    if about := judged(runs, QUESTION):
        pages["question.md"] = question_page(about, _FIGURES)
    if not pages:
        folders = ", ".join(map(str, given.reports))
        raise SparsityError(f"REPORT_DIR {folders}: no finding is of a claim that this version has")
    for name, made in pages.items():
        with writing("--docs", given.docs):
            for figure, content in made.figures.items():
                atomic_write(given.docs / _FIGURES / figure, content)
            atomic_write(given.docs / name, made.markdown)
        print(f"{given.docs / name} and {len(made.figures)} figures")
    return ExitCode.OK
