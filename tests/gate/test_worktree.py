"""Worktrees: removed by their owner, or after its death by whoever comes next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.git import commit_of, repository_of, run_git
from pytest_sparsity.core.worktree import Worktree, remove_abandoned

Git = Callable[..., str]

ENDS_AT_ONCE = """
import os, sys
from pytest_sparsity.core.worktree import Worktree
print(Worktree(sys.argv[1], "HEAD").folder, flush=True)
os._exit(0)
"""


@pytest.fixture
def repository(tmp_path: Path) -> str:
    return str(tmp_path / "a repository")


@pytest.fixture
def git(repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git_in: Any) -> Git:
    """Runs git in a repository of one commit; temporary folders are made beside it."""
    Path(repository).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    run: Git = git_in(Path(repository))
    (Path(repository) / "file").write_text("1")
    run("add", "file")
    run("commit", "-q", "-m", "one")
    return run


def _left(tmp_path: Path, git: Git) -> tuple[int, int]:
    """Worktrees besides the repository, and temporary folders."""
    known = [line for line in git("worktree", "list", "--porcelain").split() if line == "worktree"]
    return len(known) - 1, len(list(tmp_path.glob("sparsity-*")))


def test_it_is_removed(tmp_path: Path, repository: str, git: Git) -> None:
    tree = Worktree(repository, "HEAD")
    assert (Path(tree.folder) / "file").read_text() == "1"
    assert _left(tmp_path, git) == (1, 1)
    tree.remove()
    assert _left(tmp_path, git) == (0, 0)


def test_that_of_a_dead_process_is_removed(tmp_path: Path, repository: str, git: Git) -> None:
    command = [sys.executable, "-c", ENDS_AT_ONCE, repository]
    left = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert (Path(left) / "file").exists()
    users = tmp_path / "sparsity-worktree-of-a-user" / "tree"
    users.parent.mkdir()
    git("worktree", "add", "-q", "--detach", str(users))
    living = Worktree(repository, "HEAD")
    assert not Path(left).parent.exists()
    remove_abandoned(repository)
    assert (Path(living.folder) / "file").exists()
    assert users.exists()
    assert _left(tmp_path, git) == (2, 2)
    living.remove()


def test_one_that_fails_leaves_nothing(tmp_path: Path, repository: str, git: Git) -> None:
    with pytest.raises(SparsityError, match=r"git worktree add fails in .*repository: "):
        Worktree(repository, "0" * 40)
    assert _left(tmp_path, git) == (0, 0)


def test_hooks_have_no_say(
    tmp_path: Path, repository: str, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one of the repository, nor the one that this is run from."""
    hook = Path(repository) / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nothing"))
    assert repository_of(repository) == repository
    assert commit_of(repository, "main") is not None
    Worktree(repository, "main").remove()
    monkeypatch.undo()
    assert _left(tmp_path, git) == (0, 0)


def test_a_repository_that_git_refuses(
    repository: str, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SparsityError, match="dubious ownership"):
        repository_of(repository)


def test_one_that_is_cut_short_leaves_nothing(
    tmp_path: Path, repository: str, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git is killed while it checks out, and has locked the worktree until it is whole."""

    def killed(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
        if words[:2] != ("worktree", "add"):
            return run_git(folder, *words)
        run_git(folder, *words)
        run_git(folder, "worktree", "lock", "--reason=initializing", words[-2])
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_sparsity.core.worktree.run_git", killed)
    with pytest.raises(KeyboardInterrupt):
        Worktree(repository, "main")
    assert _left(tmp_path, git) == (0, 0)
