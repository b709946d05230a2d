"""When numba is imported, and where its results are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIST = """
import torch
from pytest_sparsity.kernels.registry import kernel
assert kernel("compact/cpu").call(x=torch.ones(1, 2), threshold=0.5).tolist() == [0, 1]
from pytest_sparsity.kernels.cpu._linear import active_channels
print(sum(active_channels.stats.cache_hits.values()))
"""


def run(code: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.strip()


def test_registering_imports_no_compiler() -> None:
    code = """
import sys
from pytest_sparsity.kernels.registry import registered
assert "sparse_linear/cpu" in registered()
print(sorted({"numba", "llvmlite", "triton"} & set(sys.modules)))
"""
    assert run(code) == "[]"


def test_compiled_functions_are_kept(tmp_path: Path) -> None:
    assert run(LIST, PYTEST_SPARSITY_BUILD=str(tmp_path), NUMBA_CACHE_DIR="") == "0"
    (kept,) = (tmp_path / "numba").iterdir()
    assert list(kept.rglob("_linear.active_channels*.nbi"))
    assert run(LIST, PYTEST_SPARSITY_BUILD=str(tmp_path), NUMBA_CACHE_DIR="") == "1"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run(LIST, PYTEST_SPARSITY_BUILD=str(file), NUMBA_CACHE_DIR="") == "0"
    assert run(LIST, NUMBA_CACHE_DIR=str(file)) == "0"


def test_changed_sources_are_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_sparsity.kernels.cpu._compiling import cache_folder

    monkeypatch.setenv("PYTEST_SPARSITY_BUILD", str(tmp_path / "kept"))
    source = tmp_path / "_helper.py"
    source.write_text("one")
    before = cache_folder(tmp_path)
    cache_folder.cache_clear()
    assert cache_folder(tmp_path) == before
    cache_folder.cache_clear()
    source.write_text("two")
    assert cache_folder(tmp_path) != before
