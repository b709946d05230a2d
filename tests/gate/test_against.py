"""Git revisions: found, checked out beside the repository, imported from there, and removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.speed.gate.against import NothingToCompare, Revision, check, names_kernel

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, git_in: Any) -> Git:
    """A repository with two commits of src/package/kernels.py; runs git in it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    run: Git = git_in(folder)
    file = folder / "src" / "package" / "kernels.py"
    file.parent.mkdir(parents=True)
    for number in (1, 2):
        file.write_text(f"NUMBER = {number}\n")
        run("add", "-A")
        run("commit", "-q", "-m", str(number))
    return run


def kernel(folder: Path, file: str = "src/package/kernels.py") -> Kernel:
    module = ".".join(Path(file).with_suffix("").parts[1:])
    known = registry.kernel("sparse_linear/torch")
    return replace(known, module=module, file=str(folder / file))


@pytest.mark.parametrize(
    ("text", "is_kernel"),
    [
        ("sparse_linear/native", True),
        ("sparse_linear/nobody", True),
        ("origin/main", False),
        ("main", False),
        ("HEAD~1", False),
    ],
)
def test_a_kernel_or_a_revision(text: str, is_kernel: bool) -> None:
    assert names_kernel(text) is is_kernel


def test_a_revision_is_imported_from_a_worktree(tmp_path: Path, git: Git) -> None:
    repository = tmp_path / "repository"
    revision = Revision("HEAD~1")
    place = revision.place(kernel(repository))
    moved = Path(place.file(str(repository / "src" / "package" / "kernels.py")))
    assert moved.read_text() == "NUMBER = 1\n"
    assert place.path[:2] == (str(moved.parents[2]), str(moved.parents[1]))
    assert str(repository) not in place.path
    assert len(git("worktree", "list").splitlines()) == 2
    # What lies elsewhere is the same there.
    assert place.file(os.__file__) == os.path.realpath(os.__file__)
    again = revision.place(kernel(repository))
    assert again == place
    revision.close()
    revision.close()
    assert not moved.exists()
    assert not moved.parents[3].exists()
    assert len(git("worktree", "list").splitlines()) == 1


def test_what_is_not_in_the_revision(tmp_path: Path, git: Git) -> None:
    repository = tmp_path / "repository"
    (repository / "src" / "package" / "new.py").touch()
    revision = Revision("main")
    with pytest.raises(NothingToCompare, match=r"new\.py is not in main"):
        revision.place(kernel(repository, "src/package/new.py"))
    with pytest.raises(NothingToCompare, match="is in no git repository"):
        revision.place(kernel(tmp_path))
    with pytest.raises(NothingToCompare, match="has no revision gone"):
        Revision("gone").place(kernel(repository))
    revision.close()


def test_what_is_refused_before_a_run(tmp_path: Path, git: Git) -> None:
    repository, plain = str(tmp_path / "repository"), str(tmp_path)
    assert check("main", [repository, plain]) == []
    with pytest.raises(SparsityError, match=r"there is no such revision in .*repository; name"):
        check("gone", [repository])
    with pytest.raises(SparsityError, match="no such revision"):
        check("HEAD:src", [repository])  # a folder, not a commit
    with pytest.raises(SparsityError, match="is in no git repository; run it in a clone"):
        check("main", [plain])
    (tmp_path / "repository" / "src" / "package" / "kernels.py").write_text("NUMBER = 3\n")
    (warning,) = check("main", [repository, repository])
    assert "has uncommitted changes in 1 file(s), such as src/package/kernels.py" in warning


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparsityError, match="git is not installed"):
        check("main", [str(tmp_path)])
