"""What git knows of a folder, if anything."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError

#: Of the caller's repository, if this is called from a git hook.
_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


def revision_of(folder: Path) -> str | None:
    """The commit checked out in ``folder``, with ``+`` if tracked files differ from it."""
    commit = git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}+" if uncommitted(str(folder)) else commit


def git(folder: Path, *words: str) -> str:
    """What a git command prints; empty where it fails, git is missing or there is no repository."""
    try:
        done = run_git(str(folder), *words)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def repository_of(folder: str) -> str | None:
    """The top folder of the git repository that a folder lies in; None if it is in none.

    Raises:
        SparsityError: there is no git, or it refuses to look into the repository.
    """
    if not os.path.isdir(folder):
        return None
    try:
        done = run_git(folder, "rev-parse", "--show-toplevel")
    except FileNotFoundError as error:
        raise SparsityError("git is not installed, or not in the PATH") from error
    if done.returncode and "not a git repository" not in done.stderr:
        raise SparsityError(f"git does not work in {folder}: {' '.join(done.stderr.split())}")
    return None if done.returncode else os.path.realpath(done.stdout.strip())


def commit_of(repository: str, revision: str) -> str | None:
    """The full hash of the commit that a revision names; None if it names none."""
    found = run_git(
        repository, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"
    )
    return found.stdout.split()[-1] if found.returncode == 0 else None


def uncommitted(repository: str) -> Sequence[str]:
    """Tracked files that differ from the last commit."""
    done = run_git(repository, "status", "--porcelain", "--untracked-files=no")
    return [line[3:] for line in done.stdout.splitlines()]


def run_git(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, whatever repository this is a hook of, and without that one's hooks.

    Raises:
        FileNotFoundError: there is no git.
    """
    environment = {name: text for name, text in os.environ.items() if name not in _VARIABLES}
    return subprocess.run(
        ["git", "-c", f"core.hooksPath={os.devnull}", "-C", folder, *words],
        capture_output=True,
        text=True,
        env=environment | {"LC_ALL": "C"},
        check=False,
        start_new_session=True,  # Ctrl-C is for this process, which cleans up after git
    )
