"""``pytest-sparsity gate``: a sweep, compared, as an exit code for a pipeline."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.files import check_writable
from pytest_sparsity.core.git import commit_of, repository_of
from pytest_sparsity.core.signals import end_session

if TYPE_CHECKING:
    from pytest_sparsity.core.worktree import Worktree

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
            if "accuracy" in options.suites and (tree := _worktree(options.against)):
                stack.callback(tree.remove)
                words.append(
                    f"--sparsity-baseline={_sweep_of(tree, options.against, options.passed)}"
                )
    status = _pytest([*words, *options.passed])
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
    undecided = counts.get("inconclusive", 0) + counts.get("not comparable", 0)
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


def _worktree(revision: str) -> Worktree | None:
    """A checkout of it; None if it is no revision: then it is a kernel, or pytest says so."""
    from pytest_sparsity.core.worktree import Worktree

    repository = repository_of(os.getcwd())
    commit = commit_of(repository, revision) if repository else None
    return Worktree(repository, commit) if repository and commit else None


def _sweep_of(tree: Worktree, revision: str, passed: Sequence[str]) -> Path:
    """The folder with the accuracy records of what is checked out, beside it."""
    from pytest_sparsity.sweep.store import FILE as RECORDS

    base = Path(tree.folder).parent / "base"
    inside = Path(tree.folder) / Path.cwd().resolve().relative_to(tree.repository)
    if not inside.is_dir():
        raise SparsityError(f"{revision} has no folder {Path.cwd()}; run this in another one")
    _say(f"accuracy of {revision} first")
    words = ["--sparsity-suite=accuracy", f"--sparsity-report={base}", *passed]
    status = _pytest(words, cwd=inside, first=tree.folder)
    if conclusion(status, None, strict=False)[0] is ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    finished = status in (ExitCode.OK, ExitCode.FAILED, ExitCode.NOTHING)
    if not finished or not (base / RECORDS).exists():
        raise SparsityError(
            f"{revision} could not be swept (pytest's exit code is {status}): it may be from "
            "before these options; gate against a later revision, or with --suites=performance"
        )
    return base


def _pytest(words: Sequence[str], cwd: Path | None = None, first: str | None = None) -> int:
    """Run pytest; modules in the folder ``first`` are found before installed ones."""
    environment = dict(os.environ)
    if first is not None:
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([first, *([path] if path else [])])
        # Neither annotations nor a summary about what is only compared with.
        environment.pop("GITHUB_ACTIONS", None)
    command = [sys.executable, "-m", "pytest", "--sparsity-sweep", *words]
    _say(shlex.join(command))
    process = subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:  # which it knows nothing of, in a session of its own
        process.send_signal(signal.SIGINT)
        process.wait()  # until it has cleaned up
        raise
    finally:
        if process.poll() is None:  # interrupted again
            end_session(process)
