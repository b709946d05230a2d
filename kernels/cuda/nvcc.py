"""nvcc: where it is, and what it makes of CUDA C++ source."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import run_compiler
from pytest_sparsity.kernels.cuda.source import CudaSource

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_WIDE_LOAD = re.compile(r"\bld\.global[\w.:]*\.v4\.[ufbs]32\b|\bld\.global[\w.:]*\.v2\.[ufbs]64\b")
_WIDE_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared[\w.:]*\.global[\w.:]*\s[^;]*,\s*16\b")


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture.

    Attributes:
        registers: per thread.
        spills: bytes per thread that are moved to memory and back for want of registers.
        shared: bytes of shared memory per block, without dynamic memory.
        stack: bytes per thread.
        wide_loads: 128-bit loads from global memory in its PTX, asynchronous copies included.
    """

    registers: int
    spills: int
    shared: int
    stack: int
    wide_loads: int


def find() -> str | None:
    """The path of nvcc: on the PATH, below CUDA_HOME, or of the packages of the extra ``cuda``."""
    home = os.environ.get("CUDA_HOME")
    places = [shutil.which("nvcc"), home and f"{home}/bin/nvcc", _packaged()]
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


@dataclass(frozen=True)
class Compiled:
    """What nvcc made of a source: the cubin, and each kernel's resources by its symbol."""

    cubin: bytes
    resources: Mapping[str, Resources]


def compiled(source: CudaSource, arch: str) -> Compiled:
    """Compile for ``arch`` (``sm_90``); takes seconds.

    Raises:
        SparsityError: there is no nvcc, or it fails.
    """
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as name:
        folder = Path(name)
        (folder / "source.cu").write_text(source.text)
        log = run_compiler(
            [
                *(command(), "-cubin", f"-arch={arch}", "-std=c++17", "-Xptxas", "-v"),
                *(f"-D{macro}={value}" for macro, value in source.defines),
                *(part for place in source.folders for part in ("-I", place)),
                *("-keep", "-keep-dir", name, str(folder / "source.cu")),
                *("-o", str(folder / "source.cubin")),
            ],
            f"{source.name} for {arch}",
        )
        ptx = (folder / "source.ptx").read_text()
        return Compiled((folder / "source.cubin").read_bytes(), dict(report(log, ptx)))


def command() -> str:
    """The command that starts nvcc.

    Raises:
        SparsityError: there is none.
    """
    found = find()
    if found is None:
        raise SparsityError(
            "no nvcc on the PATH: install CUDA's toolkit, or pip install 'pytest-sparsity[cuda]'"
        )
    return found


def report(log: str, ptx: str) -> Iterator[tuple[str, Resources]]:
    """Each kernel's resources from what ``ptxas -v`` printed, and from the PTX."""
    bodies = {body.partition("(")[0].strip(): body for body in ptx.split(".entry")[1:]}
    _, *parts = _ENTRY.split(log)
    for name, told in zip(parts[::2], parts[1::2], strict=True):
        stack, stores, loads = _numbers(_STACK, told)
        wide = (_WIDE_LOAD, _WIDE_COPY)
        yield (
            name,
            Resources(
                registers=_numbers(_REGISTERS, told)[0],
                spills=stores + loads,
                shared=sum(_numbers(_SHARED, told)),
                stack=stack,
                wide_loads=sum(len(pattern.findall(bodies[name])) for pattern in wide),
            ),
        )


def _numbers(pattern: re.Pattern[str], text: str) -> tuple[int, ...]:
    match = pattern.search(text)
    return tuple(map(int, match.groups())) if match else ()


@cache
def _packaged() -> str | None:
    """That of the package nvidia-cuda-nvcc, which is no module: it lies below ``nvidia``."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*/bin/nvcc"), reverse=True):
            return str(path)
    return None
