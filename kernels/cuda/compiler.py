"""CUDA C++ to cubins, by nvcc or NVRTC, and what the compiler says about their resources."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import built, run_compiler

SOURCE = Path(__file__).with_name("kernels.cu")
#: What the dtypes are called in the source.
TYPES = {torch.float32: "float", torch.bfloat16: "Bfloat16", torch.float16: "Half"}
#: Numbers of rows whose instances :func:`resources` reports: the usual one, and the largest.
_REPORTED_ROWS = (1, 8)

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_WIDE_LOAD = re.compile(r"\bld\.global[\w.]*\.v4\.[ufb]32\b")


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture.

    Attributes:
        registers: per thread.
        spills: bytes per thread that are moved to memory and back for want of registers.
        shared: bytes of shared memory per block.
        stack: bytes per thread.
        wide_loads: 128-bit loads from global memory in its PTX.
    """

    registers: int
    spills: int
    shared: int
    stack: int
    wide_loads: int


def entry(name: str, dtype: torch.dtype, rows: int) -> str:
    """The name of the instance of kernel ``name`` for an x of this dtype and number of rows."""
    return f"{name}_{TYPES[dtype]}_{rows}"


def source(instances: Iterable[tuple[torch.dtype, int]]) -> str:
    """The source with these instances, (dtype, rows), of every kernel."""
    lines = [f"INSTANCE({TYPES[dtype]}, {rows})\n" for dtype, rows in instances]
    return "".join([SOURCE.read_text(), *lines])


def nvcc() -> str | None:
    """The path of nvcc, if it is installed."""
    return shutil.which("nvcc")


def cubin(dtype: torch.dtype, rows: int, arch: str) -> Path:
    """The kernels for this dtype and number of rows, compiled for ``arch`` (``sm_90``).

    Raises:
        SparsityError: the compiler fails, or its result cannot be kept.
    """
    text, compiler = source([(dtype, rows)]), nvcc()
    name = f"cuda-{entry('kernels', dtype, rows)}-{arch}"
    if compiler is None:
        version = _nvrtc_version()
        return built(name, (text, arch, version), ".cubin", lambda: _with_nvrtc(text, arch))
    version = run_compiler([compiler, "--version"], "anything")
    return built(name, (text, arch, version), ".cubin", lambda: _with_nvcc(compiler, text, arch)[0])


def resources(arch: str) -> dict[str, Resources]:
    """What each kernel takes on ``arch`` (``sm_90``), by entry: all dtypes, one row and eight.

    Needs nvcc and no device; compiles anew every time, which takes seconds.

    Raises:
        SparsityError: there is no nvcc, or it fails.
    """
    compiler = nvcc()
    if compiler is None:
        raise SparsityError("the resources of CUDA kernels: no nvcc on the PATH; install it")
    instances = [(dtype, rows) for dtype in TYPES for rows in _REPORTED_ROWS]
    _, log, ptx = _with_nvcc(compiler, source(instances), arch)
    return dict(_report(log, ptx))


def _report(log: str, ptx: str) -> Iterator[tuple[str, Resources]]:
    """Each kernel's resources from what ``ptxas -v`` printed, and from the PTX."""
    bodies = {body.partition("(")[0].strip(): body for body in ptx.split(".entry")[1:]}
    _, *parts = _ENTRY.split(log)
    for name, told in zip(parts[::2], parts[1::2], strict=True):
        stack, stores, loads = _numbers(_STACK, told)
        yield (
            name,
            Resources(
                registers=_numbers(_REGISTERS, told)[0],
                spills=stores + loads,
                shared=sum(_numbers(_SHARED, told)),
                stack=stack,
                wide_loads=len(_WIDE_LOAD.findall(bodies[name])),
            ),
        )


def _numbers(pattern: re.Pattern[str], text: str) -> tuple[int, ...]:
    match = pattern.search(text)
    return tuple(map(int, match.groups())) if match else ()


def _with_nvcc(compiler: str, text: str, arch: str) -> tuple[bytes, str, str]:
    """The cubin, what nvcc printed, and the PTX."""
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as name:
        folder = Path(name)
        (folder / "kernels.cu").write_text(text)
        log = run_compiler(
            [
                *(compiler, "-cubin", f"-arch={arch}", "-std=c++17", "-Xptxas", "-v"),
                *("-keep", "-keep-dir", name, str(folder / "kernels.cu")),
                *("-o", str(folder / "kernels.cubin")),
            ],
            f"{SOURCE.name} for {arch}",
        )
        return (folder / "kernels.cubin").read_bytes(), log, (folder / "kernels.ptx").read_text()


def _with_nvrtc(text: str, arch: str) -> bytes:
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(std="c++17", arch=arch)
    try:
        code = Program(text, code_type="c++", options=options).compile("cubin").code
    except Exception as error:  # of several types, by version; the message holds the log
        last = "\n".join(str(error).splitlines()[-12:])
        raise SparsityError(f"NVRTC cannot compile {SOURCE.name} for {arch}: {last}") from error
    return bytes(code)


def _nvrtc_version() -> str:
    from cuda.bindings import nvrtc

    return f"NVRTC {nvrtc.nvrtcVersion()}"
