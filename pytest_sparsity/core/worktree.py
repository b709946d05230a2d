"""A commit checked out in a temporary folder, which never outlives its owner for long."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.git import run_git

_PREFIX = "sparsity-worktree-"
#: Beside the worktree; locked while its owner lives, even if the owner is killed.
_LOCK = "owner.lock"


class Worktree:
    """A commit of a repository, until :meth:`remove`.

    Worktrees that a killed process left behind in the repository are removed first.

    Attributes:
        repository: the top folder of the repository.
        folder: the top folder of the checkout.

    Raises:
        SparsityError: git cannot check it out.
    """

    def __init__(self, repository: str, commit: str) -> None:
        remove_abandoned(repository)
        self.repository = repository
        self._parent = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self.folder = str(self._parent / Path(repository).name)
        self._lock = FileLock(self._parent / _LOCK)
        self._lock.acquire()
        try:
            done = run_git(repository, "worktree", "add", "--detach", self.folder, commit)
            if done.returncode:
                told = done.stderr.strip() or done.stdout.strip()
                raise SparsityError(f"git worktree add fails in {repository}: {told}")
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the folder, and git's note of it."""
        _remove(self.repository, self._parent, self.folder)
        self._lock.release()


def remove_abandoned(repository: str) -> None:
    """Remove the worktrees of ours whose owner has ended without doing so."""
    told = run_git(repository, "worktree", "list", "--porcelain").stdout.splitlines()
    for folder in (line.removeprefix("worktree ") for line in told if line.startswith("worktree ")):
        parent = Path(folder).parent
        if not (parent.name.startswith(_PREFIX) and (parent / _LOCK).exists()):
            continue
        try:
            with FileLock(parent / _LOCK, timeout=0):
                _remove(repository, parent, folder)
        except (Timeout, OSError):  # it is in use, or somebody else's
            continue
    run_git(repository, "worktree", "prune")  # those whose folder is gone already


def _remove(repository: str, parent: Path, folder: str) -> None:
    # Twice: git locks a worktree while it makes it, and may have been killed over that.
    run_git(repository, "worktree", "remove", "--force", "--force", folder)
    shutil.rmtree(parent, ignore_errors=True)
    run_git(repository, "worktree", "prune")
