"""A git revision of a kernel: checked out beside the repository, for a process of its own."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.git import commit_of, repository_of, uncommitted
from pytest_sparsity.core.worktree import Worktree
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.speed.gate.processes import Place, folder_of

OPTION = "--sparsity-against"


def names_kernel(against: str) -> bool:
    """Whether it is ``op/name``; anything else is a revision."""
    op, slash, _ = against.partition("/")
    return bool(slash) and op in OPS


class NothingToCompare(Exception):
    """There is nothing to compare a kernel with; the message says why."""


class Revision:
    """One revision of the repositories that kernels lie in, checked out when it is first needed.

    Args:
        name: of a commit, as git understands it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._worktrees: dict[str, Worktree] = {}
        atexit.register(self.close)

    def place(self, kernel: Kernel) -> Place:
        """Where a process imports the kernel of this revision from.

        Raises:
            NothingToCompare: the kernel's file is in no repository, in one that does not know the
                revision, or not in the revision.
            SparsityError: git cannot check it out.
        """
        repository = repository_of(str(folder_of(kernel.file)))
        if repository is None:
            raise NothingToCompare(f"{kernel.file} is in no git repository")
        if repository not in self._worktrees:
            commit = commit_of(repository, self.name)
            if commit is None:
                raise NothingToCompare(f"{repository} has no revision {self.name}")
            self._worktrees[repository] = Worktree(repository, commit)
        worktree = self._worktrees[repository]
        place = _place(worktree, kernel)
        if not os.path.isfile(place.file(kernel.file)):
            raise NothingToCompare(f"{os.path.basename(kernel.file)} is not in {self.name}")
        return place

    def close(self) -> None:
        """Remove every worktree; a second call does nothing."""
        atexit.unregister(self.close)
        while self._worktrees:
            self._worktrees.popitem()[1].remove()


def check(revision: str, folders: Sequence[str]) -> list[str]:
    """Find out before a run whether a revision can be compared with; returns warnings about it.

    Args:
        revision: as the user named it.
        folders: kernels lie below one of them.

    Raises:
        SparsityError: none of the folders is in a repository that knows the revision.
    """
    repositories: list[str] = []
    obstacles: list[str] = []
    for folder in folders:
        try:
            repository = repository_of(folder)
        except SparsityError as error:
            obstacles.append(str(error))
        else:
            if repository is None:
                obstacles.append(f"{folder} is in no git repository")
            elif repository not in repositories:
                repositories.append(repository)
    if not repositories:
        raise SparsityError(
            f"{OPTION} {revision}: {', '.join(dict.fromkeys(obstacles))}; run it in a clone that "
            "git can read, or name a kernel as op/name"
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


def _place(worktree: Worktree, kernel: Kernel) -> Place:
    """Where a process imports from: the worktree, before what this process imports from."""
    ours = Place.here()
    moved = ((worktree.repository, worktree.folder),)
    roots = [worktree.repository, _import_root(kernel), *map(os.path.realpath, ours.path)]
    there = [Place((), moved).file(root) for root in roots if _below(root, worktree.repository)]
    there = [worktree.folder, *(root for root in there if os.path.isdir(root))]
    return Place(tuple(dict.fromkeys([*there, *ours.path])), moved)


def _import_root(kernel: Kernel) -> str:
    """The folder from which the kernel's module is imported, by its dotted name."""
    path = Path(os.path.realpath(kernel.file)).with_suffix("")
    parts = kernel.module.split(".")
    if tuple(parts) == path.parts[-len(parts) :]:
        return str(Path(*path.parts[: -len(parts)]))
    return str(path.parent)


def _below(folder: str, top: str) -> bool:
    return folder == top or folder.startswith(top + os.sep)
