"""A library with a kernel of its own, whose speed is gated by pytest or by pytest-sparsity gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.kernels import registry
from pytest_sparsity.speed.gate.contenders import SamplingPlan

#: Products take nearly all of the kernel's time.
CONFTEST = """
from pytest_sparsity.testing import sparse_kernel

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
import pytest

@pytest.mark.parametrize("kernel", {kernels})
def test_speed(speed_gate, kernel):
    speed_gate(kernel)
"""
ARGUMENTS = ("--sparsity-profile=smoke", "-p", "no:cacheprovider", "-rs")


class Project:
    """Another library with kernels of its own, and a test that gates them."""

    def __init__(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache: Path
    ) -> None:
        self.pytester = pytester
        #: For :meth:`signalled`; see :meth:`marking`.
        self.mark = pytester.path / "mark"
        self._monkeypatch = monkeypatch
        self._cache = f"--sparsity-cache={cache}"
        self.write(10)
        self.gate("sparse_linear/mine")

    def write(self, work: int, name: str = "mine") -> None:
        """The kernel does its product ``work`` times."""
        source = CONFTEST.format(name=name).replace("= [], 10", f"= [], {work}")
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
            patch.setattr(registry, "_KERNELS", dict(registry.registered()))
            return self.pytester.runpytest_inprocess(*ARGUMENTS, self._cache, *options)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        return self._start("-mpytest", *ARGUMENTS, self._cache, *options)

    def start_gate(
        self, *words: str, suite: str = "performance", kernel: str = "/mine"
    ) -> subprocess.Popen[str]:
        """Start pytest-sparsity gate, which runs the bundled gate."""
        chosen = ("--sparsity-tolerance=0.9", "-k", f"test_speed and {kernel}")
        return self._start(
            *("-m", "pytest_sparsity", "gate", *words, f"--suites={suite}"),
            *("--", *ARGUMENTS, self._cache, *chosen),
        )

    def _start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.pytester.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")},
        )

    def each_call(self, statement: str) -> None:
        """What the kernel does besides; ``CALLS`` has an entry for each call in the process."""
        lines = f"CALLS.append(0)\n    {statement}\n    for _ in"
        self.change("for _ in", lines)

    def marking(self) -> str:
        """Statements that make :attr:`mark`, whole at once: the number of their process."""
        return (
            "import os, pathlib; "
            f"part = pathlib.Path('{self.mark}.' + str(os.getpid())); "
            "part.write_text(str(os.getpid())); "
            f"part.replace('{self.mark}')"
        )

    def signalled(self, run: subprocess.Popen[str], number: int) -> str:
        """Send a signal when :attr:`mark` is there; what it printed until it ended."""
        deadline = time.monotonic() + 1200
        while time.monotonic() < deadline and run.poll() is None and not self.mark.exists():
            time.sleep(0.02)
        run.send_signal(number)
        return run.communicate(timeout=1200)[0]

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
    import pytest_sparsity.plugin.accuracy_gate
    import pytest_sparsity.plugin.speed_gate

    _ = pytest_sparsity
    registry.registered()
    # Nothing here is about a busy machine: no need to outlast a disturbance.
    monkeypatch.setattr("pytest_sparsity.speed.gate.kernel_timer.CONFIRM", SamplingPlan(60, 0.0))
    return Project(pytester, monkeypatch, sparsity_cache)
