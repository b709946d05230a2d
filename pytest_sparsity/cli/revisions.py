"""A git revision, checked out beside the working tree and swept there by pytest."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.git import commit_of, repository_of
from pytest_sparsity.core.signals import end_session

if TYPE_CHECKING:
    from pytest_sparsity.core.worktree import Worktree

Say = Callable[[str], None]


def worktree(revision: str) -> Worktree | None:
    """A checkout of it; None if it is no revision of the repository around this folder."""
    from pytest_sparsity.core.worktree import Worktree

    repository = repository_of(os.getcwd())
    commit = commit_of(repository, revision) if repository else None
    return Worktree(repository, commit) if repository and commit else None


def folder_inside(tree: Worktree, revision: str) -> Path:
    """This folder, as the revision has it.

    Raises:
        SparsityError: it has none.
    """
    inside = Path(tree.folder) / Path.cwd().resolve().relative_to(tree.repository)
    if not inside.is_dir():
        raise SparsityError(f"{revision} has no folder {Path.cwd()}; run this in another one")
    return inside


def sweep_of(
    tree: Worktree, revision: str, report: Path, words: Sequence[str], otherwise: str, say: Say
) -> None:
    """Measure the accuracy of what is checked out.

    Args:
        tree: the checkout.
        revision: its name, for messages.
        report: folder for the records.
        words: options of pytest.
        otherwise: what else the user can do if it cannot be swept.
        say: tells what is run.

    Raises:
        SparsityError: it cannot be swept.
        KeyboardInterrupt: it was interrupted.
    """
    from pytest_sparsity.sweep.store import FILE as RECORDS

    inside = folder_inside(tree, revision)
    say(f"accuracy of {revision} first")
    words = ["--sparsity-suite=accuracy", f"--sparsity-report={report}", *words]
    status = run_pytest(words, say, cwd=inside, first=tree.folder)
    if status in (ExitCode.INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    finished = status in (ExitCode.OK, ExitCode.FAILED, ExitCode.NOTHING)
    if not finished or not (report / RECORDS).exists():
        raise SparsityError(
            f"{revision} could not be swept (pytest's exit code is {status}): it may be from "
            f"before these options; {otherwise}"
        )


def run_pytest(
    words: Sequence[str], say: Say, cwd: Path | None = None, first: str | None = None
) -> int:
    """Run pytest; modules in the folder ``first`` are found before installed ones."""
    environment = dict(os.environ)
    if first is not None:
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([first, *([path] if path else [])])
        # Neither annotations nor a summary about what is only compared with.
        environment.pop("GITHUB_ACTIONS", None)
    command = [sys.executable, "-m", "pytest", "--sparsity-sweep", *words]
    say(shlex.join(command))
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
