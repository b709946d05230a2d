"""The speed gate for real, on a tiny kernel that is slowed down by a known amount of work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.kernels import registry

pytestmark = pytest.mark.slow

#: Products take nearly all of the kernel's time.
CONFTEST = """
from pytest_sparsity import sparse_kernel

CALLS, WORK = [], 10

@sparse_kernel(op="sparse_linear", backend="cpu", name="{name}", skips=False)
def {name}(x, weight, threshold, bias=None):
    import torch
    kept = (x * ~(x.abs() <= torch.tensor(threshold, dtype=x.dtype))).float()
    out = torch.empty(1, weight.shape[0])
    wide = weight.float().T
    for _ in range(WORK):
        torch.mm(kept, wide, out=out)
    return (out if bias is None else out + bias.float()).to(x.dtype)
"""
TEST = """
from pytest_sparsity import sparse_kernel

WORK = 1

@sparse_kernel(op="sparse_linear", backend="cpu", name="{name}", skips=False)
def {name}(x, weight, threshold, bias=None):
    import torch
    kept = x * ~(x.abs() <= torch.tensor(threshold, dtype=x.dtype))
    out = torch.empty(1, weight.shape[0])
    wide = weight.float().T
    for _ in range(WORK):
        torch.mm(kept.float(), wide, out=out)
    return (out if bias is None else out + bias.float()).to(x.dtype)
"""
TEST = """
import pytest

@pytest.mark.parametrize("kernel", {kernels})
def test_speed(speed_gate, kernel):
    speed_gate(kernel)
"""
ARGUMENTS = ("--sparsity-profile=smoke", "-p", "no:cacheprovider", "-rs")
STORE = ("--sparsity-update", "--sparsity-baseline=stored")
STORED = ("--sparsity-gate=fail", "--sparsity-baseline=stored")


class Project:
    """Another library with kernels of its own, and a test that gates them."""

    def __init__(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache: Path
    ) -> None:
        self.pytester = pytester
        self._monkeypatch = monkeypatch
        self._cache = f"--sparsity-cache={cache}"
        self.write(10)
        self.gate("sparse_linear/mine")

    def write(self, work: int, name: str = "mine") -> None:
        """The kernel does its product ``work`` times."""
        source = CONFTEST.format(name=name).replace("WORK = [], 10", f"WORK = [], {work}")
        self.pytester.makeconftest(source)

    def change(self, before: str, after: str) -> None:
        """Replace a part of the kernel's source."""
        path = self.pytester.path / "conftest.py"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))

    def gate(self, *kernels: str) -> None:
        """The test gates these kernels."""
        self.pytester.makepyfile(test_gate=TEST.format(kernels=list(kernels)))

    def run(self, *options: str) -> pytest.RunResult:
        """Run it here, where torch is imported; the kernels it registers are forgotten again."""
        with self._monkeypatch.context() as patch:
            patch.setattr(registry, "_KERNELS", dict(registry._KERNELS))
            return self.pytester.runpytest_inprocess(*ARGUMENTS, self._cache, *options)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-mpytest", *ARGUMENTS, self._cache, *options],
            cwd=self.pytester.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def commit(self) -> Callable[..., str]:
        """Make it a repository of one commit; runs git in it."""

        def git(*words: str) -> str:
            identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
            command = ["git", *identity, *words]
            done = subprocess.run(
                command, cwd=self.pytester.path, check=True, capture_output=True, text=True
            )
            return done.stdout.strip()

        git("init", "-q", "-b", "main")
        git("add", "conftest.py")
        git("commit", "-q", "-m", "one")
        return git

    def entries(self, folder: str = "sparsity-report") -> dict[str, Any]:
        """What speed.json of a folder holds."""
        content = json.loads((self.pytester.path / folder / "speed.json").read_text())
        entries: dict[str, Any] = content["entries"]
        return entries


@pytest.fixture
def project(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    sparsity_cache: Path,
    _imported: None,
) -> Project:
    # pytester forgets what is imported within a run, and heavy modules are imported only once.
    import pytest_sparsity.accuracy_gate
    import pytest_sparsity.speed_gate

    _ = pytest_sparsity
    registry.registered()
    return Project(pytester, monkeypatch, sparsity_cache)


def test_against_a_stored_time(project: Project) -> None:
    stored = project.run(*STORE)
    stored.assert_outcomes(passed=1)
    stored.stdout.fnmatch_lines(["1 entries stored in *stored/speed.json"])
    entry = project.entries("stored")["sparse_linear/mine"]
    assert entry["processes"] == [30, 30, 30]
    assert entry["companions"]["weight_bytes"] == 256 * 512 * 2

    assert project.run(*STORED).ret == 0

    project.write(30)
    slower = project.run(*STORED)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(
        [
            "sparse_linear/mine regressed against the time stored in stored: slower in each of 3 "
            "processes; * times as long (processes * to *), best * before *, stored with a spread "
            "of *, tolerance *, 60 fresh rounds, noise * (median over best)",
            "  again: pytest *test_gate.py --sparsity-gate=fail --sparsity-baseline=*stored "
            "--sparsity-profile=smoke -k 'test_speed*sparse_linear/mine*'",
        ]
    )
    assert project.entries("stored")["sparse_linear/mine"] == entry
    assert project.entries()["sparse_linear/mine"]["processes"] == [30, 60, 60]

    warned = project.run("--sparsity-gate=warn", "--sparsity-baseline=stored", "-Wdefault")
    warned.assert_outcomes(passed=1, warnings=1)
    warned.stdout.fnmatch_lines(["*SparsityWarning: sparse_linear/mine regressed against *"])


def test_entries_that_do_not_fit(project: Project) -> None:
    project.gate("sparse_linear/mine", "sparse_linear/torch")
    assert project.run(*STORE).ret == 0
    path = project.pytester.path / "stored" / "speed.json"
    content = json.loads(path.read_text())
    entries = content["entries"]
    entries["sparse_linear/gone"] = entries["sparse_linear/mine"]
    entries["sparse_linear/mine"]["target"] = "cpu-of-another-machine"
    path.write_text(json.dumps(content))
    project.gate("sparse_linear/mine")
    result = project.run(*STORED)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "stale (no such kernel is registered any more): sparse_linear/gone",
            "unused (not looked at in this run): sparse_linear/torch",
            "SKIPPED*sparse_linear/mine not comparable*: the machine is another: stored * now *",
        ]
    )
    project.run(*STORED, "--sparsity-strict").assert_outcomes(failed=1)

    # Figures that need no clock gate on any machine.
    entries["sparse_linear/mine"]["companions"]["allocations"] -= 1
    path.write_text(json.dumps(content))
    result = project.run(*STORED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*: it takes more: allocations * -> *"])


def test_against_a_revision(project: Project) -> None:
    git = project.commit()
    project.write(20)
    options = ("--sparsity-gate=fail", "--sparsity-against=main")
    slower = project.run(*options)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(
        [
            "WARNING: --sparsity-against main: * has uncommitted changes in 1 file(s), such as "
            "conftest.py; *",
            "sparse_linear/mine regressed against itself at main: slower; * times as long (block "
            "minima * to *), best *, before *, tolerance 8.0%, 60 fresh rounds, *",
        ]
    )
    assert set(project.entries()) == {"sparse_linear/mine", "sparse_linear/mine@main"}
    assert project.entries()["sparse_linear/mine"]["processes"] == [30, 60, 60]
    assert len(git("worktree", "list").splitlines()) == 1

    git("add", "conftest.py")
    git("commit", "-q", "-m", "two")
    same = project.run(*options)
    assert same.ret == 0
    assert f"{project.pytester.path} has uncommitted" not in same.stdout.str()

    project.write(10, "renamed")
    project.gate("sparse_linear/renamed")
    renamed = project.run(*options)
    renamed.assert_outcomes(skipped=1)
    renamed.stdout.fnmatch_lines(["SKIPPED*renamed not comparable*there is no kernel*"])


def test_against_another_kernel(project: Project) -> None:
    project.write(100)
    options = ("--sparsity-gate=fail", "--sparsity-against=sparse_linear/torch")
    result = project.run(*options, "--sparsity-tolerance=0.2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed against sparse_linear/torch: slower; *20.0%*"])
    assert {"sparse_linear/mine", "sparse_linear/torch"} == set(project.entries())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return out.add(1).to(x.dtype)", "is wrong before it was timed: is off *"),
        ("raise ValueError('in vain')", "ValueError: in vain*"),
    ],
)
def test_a_kernel_that_is_not_right(project: Project, line: str, message: str) -> None:
    project.change("    for _ in", f"    {line}\n    for _ in")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"sparse_linear/mine {message}"])


def test_a_kernel_that_raises_in_some_round(project: Project) -> None:
    project.change(
        "    for _ in",
        """    CALLS.append(0)
    if len(CALLS) > 500: raise OSError("worn out")
    for _ in""",
    )
    result = project.run(*STORE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["sparse_linear/mine OSError: worn out in round *"])
    entry = project.entries()["sparse_linear/mine"]
    assert entry["partial"]
    assert entry["seconds"]
    assert not (project.pytester.path / "stored" / "speed.json").exists()


def test_two_processes_take_turns(project: Project) -> None:
    project.gate("sparse_linear/mine", "sparse_linear/torch", "sparse_linear/cpu")
    run = project.start(*STORE, "-n", "2")
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output
    assert set(project.entries("stored")) == {
        *("sparse_linear/mine", "sparse_linear/torch", "sparse_linear/cpu")
    }
    assert project.entries("stored") == project.entries()


def test_interruption_keeps_the_rounds(project: Project) -> None:
    git = project.commit()
    project.write(20)  # slower, so that fresh processes are started after the first rounds
    mark = project.pytester.path / "mark"
    project.change(
        "    for _ in",
        f"""    CALLS.append(0)
    if len(CALLS) == 400: open({str(mark)!r}, "w").close()
    for _ in""",
    )
    run = project.start("--sparsity-gate=fail", "--sparsity-against=main")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and run.poll() is None and not mark.exists():
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    output = run.communicate(timeout=120)[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "INTERNALERROR" not in output
    assert len(git("worktree", "list").splitlines()) == 1
    entry = project.entries()["sparse_linear/mine"]
    assert entry["partial"]
    assert len(entry["seconds"]) > 0
