"""Tells which sources of kernels a figure is of."""

from __future__ import annotations

from pathlib import Path

from pytest_sparsity.core.files import sha256_text

KERNELS = Path(__file__).parent
_SOURCES = {".py", ".cpp", ".cu", ".cuh", ".h"}


def sources_hash(backend: str, kernels: Path = KERNELS) -> str:
    """Hash over the names and contents of a backend's sources; of nothing if it has none."""
    folder = kernels / backend
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SOURCES)
    named = [f"{file.relative_to(folder).as_posix()}:{file.read_text('utf-8')}" for file in files]
    return sha256_text(*named)[:16]
