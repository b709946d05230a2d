"""A git revision of a kernel: checked out beside the repository, for a process of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_sparsity.benchmarking.gate.processes import Place, folder_of
from pytest_sparsity.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.ops import OPS

OPTION = "--sparsity-against"
#: Not of the caller's git, if it is called from a hook.
_GIT_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def names_kernel(against: str) -> bool:
    """Whether it is ``op/name``; anything else is a revision."""
    op, slash, _ = against.partition("/")
    return bool(slash) and op in OPS


class NotThere(Exception):
    """The revision has nothing to compare a kernel with; the message says why."""


class Revision:
    """One revision of the repositories that kernels lie in, checked out when it is first needed.

    Args:
        name: whatever git takes for a commit.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._worktrees: dict[str, Worktree] = {}
        atexit.register(self.close)

    def place(self, kernel: Kernel) -> Place:
        """Where a process imports the kernel from as it was.

        Raises:
            NotThere: the kernel's file is in no repository, in one that does not know the revision,
                or not in the revision.
            SparsityError: git cannot check it out.
        """
        repository = repository_of(str(folder_of(kernel.file)))
        if repository is None:
            raise NotThere(f"{kernel.file} is in no git repository")
        if repository not in self._worktrees:
            commit = commit_of(repository, self.name)
            if commit is None:
                raise NotThere(f"{repository} has no revision {self.name}")
            self._worktrees[repository] = Worktree(repository, commit)
        worktree = self._worktrees[repository]
        place = worktree.place(kernel)
        if not os.path.isfile(place.file(kernel.file)):
            raise NotThere(f"{os.path.basename(kernel.file)} is not in {self.name}")
        return place

    def close(self) -> None:
        """Remove every worktree; a second call does nothing."""
        atexit.unregister(self.close)
        while self._worktrees:
            self._worktrees.popitem()[1].remove()


class Worktree:
    """A commit, checked out in a temporary folder.

    Raises:
        SparsityError: git cannot check it out.
    """

    def __init__(self, repository: str, commit: str) -> None:
        self._repository = repository
        self._parent = tempfile.mkdtemp(prefix="sparsity-against-")
        self.folder = os.path.join(os.path.realpath(self._parent), Path(repository).name)
        try:
            _git(repository, "worktree", "add", "--detach", self.folder, commit)
        except BaseException:
            self.remove()
            raise

    def place(self, kernel: Kernel) -> Place:
        """Where a process imports from: the worktree, before what this process imports from."""
        ours = Place.here()
        moved = ((self._repository, self.folder),)
        roots = [self._repository, _import_root(kernel), *map(os.path.realpath, ours.path)]
        there = [Place((), moved).file(root) for root in roots if _below(root, self._repository)]
        there = [self.folder, *(root for root in there if os.path.isdir(root))]
        return Place(tuple(dict.fromkeys([*there, *ours.path])), moved)

    def remove(self) -> None:
        """Remove the folder, and git's note of it."""
        _run(self._repository, "worktree", "remove", "--force", self.folder)
        shutil.rmtree(self._parent, ignore_errors=True)
        _run(self._repository, "worktree", "prune")


def repository_of(folder: str) -> str | None:
    """The top folder of the git repository that a folder lies in; None if it is in none.

    Raises:
        SparsityError: there is no git.
    """
    try:
        done = _run(folder, "rev-parse", "--show-toplevel")
    except FileNotFoundError as error:
        raise SparsityError(f"{OPTION}: git is not installed, or not in the PATH") from error
    return os.path.realpath(done.stdout.strip()) if done.returncode == 0 else None


def commit_of(repository: str, revision: str) -> str | None:
    """The full hash of the commit that a revision names; None if it names none."""
    done = _run(repository, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    return done.stdout.split()[-1] if done.returncode == 0 else None


def check(revision: str, folders: Sequence[str]) -> list[str]:
    """Find out before a run whether a revision can be compared with; what to warn of, if it can.

    Args:
        revision: as the user named it.
        folders: kernels lie below one of them.

    Raises:
        SparsityError: none of the folders is in a repository that knows the revision.
    """
    found = [repository_of(folder) for folder in folders]
    repositories = list(dict.fromkeys(folder for folder in found if folder is not None))
    if not repositories:
        raise SparsityError(
            f"{OPTION} {revision}: {' and '.join(folders)} are in no git repository; run it in a "
            "clone, or name a kernel as op/name"
        )
    if not any(commit_of(repository, revision) for repository in repositories):
        raise SparsityError(
            f"{OPTION} {revision}: there is no such revision in {' and '.join(repositories)}; name "
            "a branch, a tag or a commit that was fetched, or a kernel as op/name"
        )
    return [
        f"{OPTION} {revision}: {repository} has uncommitted changes in {len(changed)} file(s), "
        f"such as {changed[0]}; they are part of the candidate"
        for repository in repositories
        if (changed := uncommitted(repository))
    ]


def uncommitted(repository: str) -> Sequence[str]:
    """Tracked files that differ from the last commit."""
    done = _run(repository, "status", "--porcelain", "--untracked-files=no")
    return [line[3:] for line in done.stdout.splitlines()]


def _import_root(kernel: Kernel) -> str:
    """The folder that the kernel's module is imported from, as its dotted name tells it."""
    path = Path(os.path.realpath(kernel.file)).with_suffix("")
    parts = kernel.module.split(".")
    if tuple(parts) == path.parts[-len(parts) :]:
        return str(Path(*path.parts[: -len(parts)]))
    return str(path.parent)


def _below(folder: str, top: str) -> bool:
    return folder == top or folder.startswith(top + os.sep)


def _git(repository: str, *arguments: str) -> str:
    done = _run(repository, *arguments)
    if done.returncode:
        raise SparsityError(
            f"{OPTION}: git {' '.join(arguments[:2])} fails in {repository}: "
            f"{done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def _run(repository: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name not in _GIT_VARIABLES}
    return subprocess.run(
        ["git", "-C", repository, *arguments],
        capture_output=True,
        text=True,
        env=environment | {"LC_ALL": "C"},
        check=False,
        start_new_session=True,  # Ctrl-C ends neither a checkout nor its removal half-way
    )
