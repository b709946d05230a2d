"""Others' own tests and programs, run in a process with a pretended CUDA device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no triton for this platform"
)

TEST = """
import torch, triton, triton.language as tl
from parts import times

@triton.jit
def scale(x, y, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, times(factor, tl.load(x + at, mask=at < n, other=0.0)), mask=at < STOP)

def test_scale():
    x = torch.randn(100, device="cuda")
    y = torch.empty_like(x)
    scale[(4,)](x, y, 100, 3.0, BLOCK=32)
    torch.cuda.synchronize()
    assert y.is_cuda
    torch.testing.assert_close(y, 3 * x)
"""
#: The module of a function that needs nothing of Triton's language.
PARTS = """
import triton

@triton.jit
def times(x, y):
    return x * y
"""


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-m", "pytest_sparsity.checking.interpreted", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(("stop", "words"), [("n", "1 passed"), ("128", "a store outside of y")])
def test_a_suite_for_a_gpu_runs_unchanged(tmp_path: Path, stop: str, words: str) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "test_scale.py").write_text(TEST.replace("STOP", stop))
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_scale.py", folder=tmp_path)
    assert words in done.stdout
    assert done.returncode == (stop != "n")


def test_a_program_gets_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys, torch; print(sys.argv[1:], torch.ones(2, device='cuda').device)"
    )
    done = run("program.py", "-m", "x", folder=tmp_path)
    assert done.stdout == "['-m', 'x'] cuda:0\n"


def test_nothing_to_run_is_told(tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -m pytest_sparsity.checking.interpreted ")
