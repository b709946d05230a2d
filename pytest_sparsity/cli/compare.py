"""``pytest-sparsity compare``: two models, two runs or two revisions, paired."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.gate import conclusion
from pytest_sparsity.cli.measuring import OPTIONS, measure, measured_like, read_report
from pytest_sparsity.cli.parser import Parser, own_options, writing
from pytest_sparsity.cli.sides import Kind, Side, side_of
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.files import atomic_write, check_writable
from pytest_sparsity.settings.options import DEFAULT_MODEL
from pytest_sparsity.settings.options import OPTIONS as TABLE
from pytest_sparsity.settings.parsing import fraction

if TYPE_CHECKING:
    from pytest_sparsity.reporting.compared import Row

SUMMARY = "compare two models, report folders, revisions or logged samples, paired item by item"
_ABOUT = f"""A and B are each one of
  a report folder             of pytest --sparsity-sweep, or a stored run (records.jsonl)
  a model                     a known name, a folder, a GGUF file or a hub id; it is measured
  a git revision              what it measures of --model; a path is taken from the revision
  logged samples              samples_*.jsonl of lm-eval --log_samples, their folder, or a
                              .jsonl of any engine: doc_id, metrics and their values per line
model:NAME and rev:NAME say which is meant where a word could be either.

examples:
  pytest-sparsity compare models/base models/tuned --tasks sva,arc_easy --levels 0.5
  pytest-sparsity compare stored-run models/tuned            # measured as the stored run was
  pytest-sparsity compare main HEAD --model models/mine
  pytest-sparsity compare lm-eval-out/base lm-eval-out/tuned

B is held against A on the same documents and items: dense against dense, sparse against sparse,
and what sparsity costs in B against what it cost in A.  Perplexity and greedy text are compared
for models whose tokenizers cut text alike; others by tasks, or by bits per byte of lm-eval.

exit codes: {ExitCode.OK} nothing is worse, {ExitCode.FAILED} something is worse,
{ExitCode.NOTHING} nothing was compared, {ExitCode.UNDECIDED} undecided (with --strict); the others
as in pytest-sparsity --help."""


def add_arguments(parser: Parser) -> None:
    """The two sides, how what is no report is measured, and where it goes."""
    parser.epilog = _ABOUT
    parser.add_argument("a", metavar="A", help="what was before")
    parser.add_argument("b", metavar="B", help="what is held against it")
    parser.add_argument("--strict", action="store_true", help="undecided is not good enough")
    parser.add_argument(
        "--run-error",
        default="0.01",
        metavar="X",
        help="as --sparsity-run-error: chance that a comparison in which nothing is worse is red; "
        "default: %(default)s",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the decisions")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("sparsity-compare"),
        metavar="DIR",
        help="records of what is measured, in a and b; default: %(default)s",
    )
    samples = parser.add_argument_group("logged samples")
    samples.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="field that is a score, where lines have no `metrics`; may be repeated",
    )
    samples.add_argument(
        "--other-prompts",
        action="store_true",
        help="compare items although their prompts differ, as with chat templates of two models",
    )
    group = parser.add_argument_group("what models and revisions are measured by")
    group.add_argument(
        "--model",
        metavar="MODEL",
        help=f"of a revision; default: {DEFAULT_MODEL}, or the model on the other side",
    )
    table = {option.name: option for option in TABLE}
    for name in OPTIONS:
        of = f"as --sparsity-{name}" + ("; default: off" if name == "spon" else "")
        group.add_argument(f"--{name}", metavar=table[name].metavar, help=of)


def run(given: argparse.Namespace) -> ExitCode:
    """Compare, print and write."""
    with own_options("run-error"):
        given.run_error = fraction("run-error", given.run_error)
    sides = (side_of("A", given.a), side_of("B", given.b))
    for option in ("json", "markdown"):
        if (path := getattr(given, option)) is not None:
            with writing(f"--{option}", path):
                check_writable(path.absolute().parent)
    if (sides[0].kind is Kind.SAMPLES) != (sides[1].kind is Kind.SAMPLES):
        raise SparsityError(
            f"A is {sides[0].kind.value} and B is {sides[1].kind.value}; compare logged samples "
            "with logged samples"
        )
    if sides[0].files and sides[0].files == sides[1].files:
        raise SparsityError(f"A and B are both {sides[0].files[0]}; name two runs")
    samples = sides[0].kind is Kind.SAMPLES
    rows, missing = _of_samples(given, sides) if samples else _of_runs(given, sides)
    return _tell(given, rows, missing)


def _tell(given: argparse.Namespace, rows: list[Row], missing: list[str]) -> ExitCode:
    from pytest_sparsity.reporting import compared

    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    print(f"A: {given.a}\nB: {given.b}\n")
    print(compared.compared_text(rows, missing, width))
    contents = {
        "json": compared.compared_json(rows, missing, given.a, given.b),
        "markdown": compared.compared_markdown(rows, missing, given.a, given.b),
    }
    for option, content in contents.items():
        if (path := getattr(given, option)) is not None:
            with writing(f"--{option}", path):
                atomic_write(path, content)
    counts, _ = compared.conclusion_of(rows)
    code, sentence = conclusion(ExitCode.OK, counts, strict=given.strict)
    _say(f"{sentence} (exit code {code})")
    return code


def _of_samples(given: argparse.Namespace, sides: tuple[Side, Side]) -> tuple[list[Row], list[str]]:
    from pytest_sparsity.evaluation.logged_samples import read_tasks
    from pytest_sparsity.reporting.compared import rows_of_samples
    from pytest_sparsity.sweep.held import held_for_run
    from pytest_sparsity.sweep.sample_changes import compare_samples

    if asked := _asked(given):
        raise SparsityError(
            f"--{next(iter(asked))}: logged samples are not measured again; leave it out"
        )
    before, now = (read_tasks(side.files, side.option, given.metric) for side in sides)
    found = compare_samples(before, now, seed=0, other_prompts=given.other_prompts)
    found = held_for_run(found, error=given.run_error, seed=0)
    alone = [("A", before.keys() - now.keys()), ("B", now.keys() - before.keys())]
    named = len(before) + len(now) > 2
    missing = [f"{side} alone has task {task}" for side, own in alone for task in sorted(own)]
    return rows_of_samples(found), missing if named else []


def _of_runs(given: argparse.Namespace, sides: tuple[Side, Side]) -> tuple[list[Row], list[str]]:
    from pytest_sparsity.reporting.compared import rows_of_cells
    from pytest_sparsity.sweep.held import held_for_run
    from pytest_sparsity.sweep.two_runs import compare_runs

    asked = _asked(given)
    if given.metric or given.other_prompts:
        word = "--metric" if given.metric else "--other-prompts"
        raise SparsityError(f"{word}: it is about logged samples; leave it out")
    if asked and not any(side.is_measured for side in sides):
        raise SparsityError(
            f"--{next(iter(asked))}: both are report folders and nothing is measured; leave it out"
        )
    stored = {s: read_report(s, s.files[0]) for s in sides if s.kind is Kind.REPORT}
    (like,) = stored.values() if len(stored) == 1 else ({},)
    options = {"spon": "off", **(measured_like(like) if like else {}), **asked}
    models = [side.text for side in sides if side.kind is Kind.MODEL]
    model = given.model or (models[0] if models else DEFAULT_MODEL)
    if any(side.is_measured for side in sides):
        with writing("--report", given.report):
            check_writable(given.report)
    with own_options(*OPTIONS, "model", "report"):
        before, now = (
            stored[side]
            if side in stored
            else measure(side, model, options, like, given.report / side.option.lower(), _say)
            for side in sides
        )
    seed = int(options.get("seed", "0"))
    found = compare_runs(before, now, seed=seed)
    comparisons = held_for_run(found.comparisons, error=given.run_error, seed=seed)
    missing = [f"A alone has {id}" for id in found.only_before]
    missing += [f"B alone has {id}" for id in found.only_now]
    missing += [f"{was} of A is {now} of B" for was, now in found.names.items()]
    if found.other_tokens:
        missing.append(
            "the tokenizers of A and B cut text differently: of what is counted in tokens "
            "(perplexity, divergence, greedy text) nothing is compared"
        )
    return rows_of_cells(comparisons), missing


def _asked(given: argparse.Namespace) -> Mapping[str, str]:
    """What was asked for of what is measured, by option."""
    return {name: text for name in OPTIONS if (text := getattr(given, name)) is not None}


def _say(sentence: str) -> None:
    print(f"pytest-sparsity compare: {sentence}", file=sys.stderr, flush=True)
