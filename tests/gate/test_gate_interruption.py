"""The gate is interrupted: rounds are kept, and neither processes nor worktrees are left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

AGAINST = ("--sparsity-gate=fail", "--sparsity-against=main")


@pytest.fixture
def git(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernel is in a repository and is slower now; temporary folders lie in ``tmp_path``."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = project.commit()
    project.write(20)  # fresh processes are started after the first rounds
    project.each_call(f"if len(CALLS) == 400: {project.marking()}")
    return run


def assert_nothing_left(project: Any, git: Any, tmp_path: Path) -> None:
    assert len(git("worktree", "list").splitlines()) == 1
    assert not list(tmp_path.glob("sparsity-*"))
    assert not running(int(project.mark.read_text()))


def running(process: int) -> bool:
    """Whether a process has not ended; one that nobody has asked about since then has."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_running_tells_what_has_ended_from_what_has_not() -> None:
    assert running(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still listed
    assert not running(child.pid)
    child.wait()
    assert not running(child.pid)


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGTERM, ("-n", "2"))],
)
def test_rounds_are_kept(
    project: Any, git: Any, tmp_path: Path, number: int, options: tuple[str, ...]
) -> None:
    run = project.start(*AGAINST, *options)
    output = project.signalled(run, number)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "INTERNALERROR" not in output
    assert_nothing_left(project, git, tmp_path)
    entry = project.entries()["sparse_linear/mine"]
    assert entry["partial"]
    assert entry["seconds"]


def test_after_a_kill_the_next_run_cleans_up(project: Any, git: Any, tmp_path: Path) -> None:
    run = project.start(*AGAINST)
    project.signalled(run, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert len(git("worktree", "list").splitlines()) == 2
    project.run(*AGAINST)
    assert_nothing_left(project, git, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_what_it_started(
    project: Any, git: Any, tmp_path: Path, number: int
) -> None:
    run = project.start_gate("--against=main")
    output = project.signalled(run, number)
    assert run.returncode == 2, output
    assert "pytest-sparsity: interrupted (exit code 2)" in output
    assert "Traceback" not in output
    assert_nothing_left(project, git, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_removes_its_own_worktree(
    project: Any, git: Any, tmp_path: Path, number: int
) -> None:
    """The sweep of the base lies in a worktree, which is interrupted here."""
    project.pytester.makeconftest(
        f"import time\ndef pytest_configure():\n    {project.marking()}\n    time.sleep(1200)\n"
    )
    git("commit", "-qam", "two")
    project.write(10)
    run = project.start_gate("--against=main", suite="accuracy")
    output = project.signalled(run, number)
    assert run.returncode == 2, output
    assert "Traceback" not in output
    assert_nothing_left(project, git, tmp_path)
