"""Compiling, keeping and finding the native library, and what users read when that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels import build
from pytest_sparsity.kernels.native import library

needs_compiler = pytest.mark.skipif(
    library.unavailable() is not None, reason=str(library.unavailable())
)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for compiled kernels."""
    monkeypatch.setenv(build.FOLDER_VARIABLE, str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def wrapper(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that leaves a line per compilation in the file that is returned."""
    real = library.find_compiler()
    assert real is not None
    log = tmp_path / "log"
    log.touch()
    script = f'case "$*" in *--version*) ;; *) echo run >> {log};; esac\nexec {real[0]} "$@"'
    monkeypatch.setenv("CXX", str(wrapper(tmp_path, script)))
    return log


def test_no_compiler_is_a_reason_and_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent")
    assert library.unavailable() == "no C++ compiler: set CXX or install g++"
    with pytest.raises(SparsityError, match="set CXX"):
        library.library()


def test_failing_compiler_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    broken = wrapper(
        tmp_path, 'case "$*" in --version) ;; *) echo "no such thing" >&2; exit 3;; esac'
    )
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(SparsityError, match=r"(?s)status 3.*no such thing"):
        library.library()
    assert not list(folder.glob("*.so"))


def test_folder_that_cannot_be_written_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # a folder below a file cannot be made, not even by root
    monkeypatch.setenv(build.FOLDER_VARIABLE, str(tmp_path / "file" / "kernels"))
    with pytest.raises(SparsityError, match=f"{build.FOLDER_VARIABLE}: .*file/kernels"):
        build.built("name", ["key"], ".so", lambda: b"")


def test_result_is_kept_under_all_that_it_depends_on(folder: Path) -> None:
    made: list[str] = []

    def make(content: str) -> bytes:
        made.append(content)
        return content.encode()

    first = build.built("name", ["ab", "c"], ".so", lambda: make("first"))
    again = build.built("name", ["ab", "c"], ".so", lambda: make("again"))
    other = build.built("name", ["a", "bc"], ".so", lambda: make("other"))
    assert made == ["first", "other"]
    assert first == again != other
    assert (first.read_bytes(), other.read_bytes()) == (b"first", b"other")


@needs_compiler
@pytest.mark.slow
def test_processes_that_start_together_compile_once(folder: Path, counted: Path) -> None:
    code = (
        "import torch\n"
        "from pytest_sparsity.kernels.native.sparse_linear import sparse_linear\n"
        "print(sparse_linear(torch.ones(1, 4), torch.ones(3, 4), 0.5).tolist())\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert outputs == ["[[4.0, 4.0, 4.0]]\n"] * 2
    assert counted.read_text() == "run\n"
    assert len(list(folder.glob("*.so"))) == 1


def test_registry_starts_no_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen = None\n"
        "from pytest_sparsity.kernels.registry import registered\n"
        "known = registered()\n"
        "assert 'sparse_linear/native' in known and 'sparse_swiglu/cuda' in known, list(known)\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'cuda']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert not folder.exists()
