"""``pytest-sparsity gate``: a sweep, compared, as an exit code for a pipeline."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from pathlib import Path

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.cli.revisions import run_pytest, sweep_of, worktree
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.files import check_writable

SUMMARY = "run a sweep and compare it, with an exit code that a pipeline can act on"
SUITES = ("kernels", "accuracy", "performance")
_ABOUT = f"""examples:
  pytest-sparsity gate --against origin/main                 # side by side with a revision
  pytest-sparsity gate --baseline stored-run                 # with a stored run
  pytest-sparsity gate --baseline stored-run --update        # store one
  pytest-sparsity gate --against origin/main -- --sparsity-model=my/model --sparsity-profile=smoke

Kernels are timed side by side with those of the revision, in this run.  For accuracy the revision
is swept first, in a worktree of its own, and its records are the stored run.  The report folder
holds gate.json, summary.md, junit.xml and benchmark.json.  What stands behind -- goes to pytest.

exit codes: {ExitCode.OK} no regression, {ExitCode.FAILED} regression or failing test,
{ExitCode.NOTHING} nothing was compared, {ExitCode.UNDECIDED} undecided (with --strict); the others
as in pytest-sparsity --help."""


def add_arguments(parser: Parser) -> None:
    """What is compared with what."""
    parser.epilog = _ABOUT
    with_what = parser.add_mutually_exclusive_group(required=True)
    with_what.add_argument("--against", metavar="REV", help="git revision, or op/name of a kernel")
    with_what.add_argument("--baseline", metavar="DIR", help="folder of a stored run")
    parser.add_argument("--update", action="store_true", help="store this run in --baseline")
    parser.add_argument(
        "--strict", action="store_true", help=f"undecided is exit code {ExitCode.UNDECIDED}"
    )
    parser.add_argument(
        "--suites", default=",".join(SUITES), metavar="LIST", help="default: %(default)s"
    )
    parser.add_argument("--report", default="sparsity-report", metavar="DIR", help="of this run")
    parser.add_argument("--history", metavar="FILE", help="append this run to FILE")


def run(given: argparse.Namespace) -> ExitCode:
    """Sweep, compare and say what came of it."""
    if given.update and given.baseline is None:
        raise SparsityError("--update stores a run in --baseline DIR: name it")
    if unknown := set(given.suites.split(",")) - set(SUITES):
        raise SparsityError(f"--suites: {sorted(unknown)[0]!r} is none of {', '.join(SUITES)}")
    # SIGINT may be ignored where jobs are put aside.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        return _gate(given, stack)


def _gate(options: argparse.Namespace, stack: contextlib.ExitStack) -> ExitCode:
    from pytest_sparsity.reporting.gate import FILE as DECISIONS
    from pytest_sparsity.sweep.store import FILE as RECORDS

    report = Path(options.report).absolute()
    decisions = report / DECISIONS
    with writing("--report", report):
        check_writable(report)
    if options.baseline and Path(options.baseline).resolve() == report.resolve():
        raise SparsityError(f"{report} cannot be both --baseline and --report")
    decisions.unlink(missing_ok=True)  # of another run
    # A gate measures: cells of an earlier run, maybe of other code, are not taken for this one's.
    with contextlib.suppress(FileNotFoundError):
        (report / RECORDS).replace(report / "records.before.jsonl")
    words = [f"--sparsity-suite={options.suites}", f"--sparsity-report={report}"]
    # A test that cannot be collected fails, and the others are run.
    words += [f"--junitxml={report / 'junit.xml'}", "--continue-on-collection-errors"]
    if options.history:
        words.append(f"--sparsity-history={options.history}")
    if options.update:
        words += ["--sparsity-update", f"--sparsity-baseline={options.baseline}"]
    else:
        words.append("--sparsity-gate=fail")
        if options.baseline:
            words.append(f"--sparsity-baseline={options.baseline}")
        else:
            words.append(f"--sparsity-against={options.against}")
            if "accuracy" in options.suites and (tree := worktree(options.against)):
                stack.callback(tree.remove)
                base = Path(tree.folder).parent / "base"
                otherwise = "gate against a later revision, or with --suites=performance"
                sweep_of(tree, options.against, base, options.passed, otherwise, _say)
                words.append(f"--sparsity-baseline={base}")
    status = run_pytest([*words, *options.passed], _say)
    counts = None if options.update else _counts(decisions)
    code, sentence = conclusion(status, counts, strict=options.strict)
    _say(f"{sentence} (exit code {code})")
    return code


def conclusion(status: int, counts: dict[str, int] | None, *, strict: bool) -> tuple[ExitCode, str]:
    """Exit code and sentence.

    Args:
        status: pytest's exit code, negative if a signal ended it.
        counts: decisions of each kind, empty if no file was written; None if nothing was gated.
        strict: whether undecided is not good enough.
    """
    if status == ExitCode.USAGE:
        return ExitCode.USAGE, "wrong use, see above"
    if status in (ExitCode.INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
        return ExitCode.INTERRUPTED, "interrupted"
    if counts and counts.get("regressed"):
        return ExitCode.FAILED, f"{counts['regressed']} regressed"
    if status == ExitCode.FAILED:
        return ExitCode.FAILED, "tests failed"
    if status == ExitCode.WARNINGS:
        return ExitCode.WARNINGS, "too many warnings"
    if status == ExitCode.NOT_WRITTEN:
        return ExitCode.NOT_WRITTEN, "what was measured could not be written, see above"
    if status not in (ExitCode.OK, ExitCode.NOTHING):
        sentence = f"pytest ended with exit code {status}, so nothing is known"
        return ExitCode.INTERNAL_ERROR, sentence
    if counts is None and status == ExitCode.OK:
        return ExitCode.OK, "the run is stored"
    if counts is None:
        return ExitCode.NOTHING, "nothing was measured"
    if status or sum(counts.values()) == counts.get("not comparable", 0):
        return ExitCode.NOTHING, "nothing was compared"
    undecided = sum(counts.get(d, 0) for d in ("suspect", "inconclusive", "not comparable"))
    if strict and undecided:
        return ExitCode.UNDECIDED, f"{undecided} undecided"
    return ExitCode.OK, "no regression"


def _counts(path: Path) -> dict[str, int]:
    try:
        return dict(json.loads(path.read_text())["counts"])
    except FileNotFoundError:
        return {}


def _say(sentence: str) -> None:
    print(f"pytest-sparsity gate: {sentence}", flush=True)
