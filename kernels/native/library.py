"""The compiled library: found or built on first use, its functions called with tensors."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import built, run_compiler
from pytest_sparsity.reference.precision import round_to

SOURCE = Path(__file__).with_name("kernels.cpp")
#: No -ffast-math: it takes NaN activations for inactive.  No OpenMP: torch has one of its own.
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"),
    *("-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"),
)
_COMPILERS = ("c++", "g++", "clang++")

#: What a C function takes: a tensor's address (None: null), a size or stride, a threshold.
Argument = Tensor | int | float | None


def unavailable() -> str | None:
    """Why the library cannot be built here, or None."""
    return None if find_compiler() else "no C++ compiler: set CXX or install g++"


@cache
def library() -> ctypes.CDLL:
    """The library, compiled for this processor.

    Raises:
        SparsityError: there is no compiler, it fails, or the result cannot be kept or loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise SparsityError(f"native kernels: {unavailable()}")
    version = run_compiler([*compiler, "--version"], "anything")
    source = SOURCE.read_text()
    key = (source, version, shlex.join(compiler), *FLAGS, _processor())
    path = built("native", key, ".so", lambda: _compile(compiler))
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise SparsityError(f"native kernels: {path} cannot be loaded: {error}") from error


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> None:
    """Call the C function of this name for this dtype.

    Integers are passed as int64, floats as float, tensors as the address of their first number.
    The interpreter's lock is released meanwhile.
    """
    _function(name, dtype)(*[_passed(argument) for argument in arguments])


@lru_cache(maxsize=1024)
def threshold_in(dtype: torch.dtype, threshold: float) -> float:
    """``threshold`` rounded to the dtype in which activations are compared."""
    return round_to(threshold, dtype)


def check_on_cpu(x: Tensor) -> None:
    """Raise ValueError unless ``x`` is where native kernels can reach it."""
    if x.device.type != "cpu":
        raise ValueError(f"x must be on the CPU for a native kernel, not on {x.device}")


@cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., None]:
    function = library()[f"{name}_{str(dtype).removeprefix('torch.')}"]
    function.restype = None
    return function


def _passed(argument: Argument) -> object:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return None if argument is None else ctypes.c_float(argument)


def find_compiler() -> tuple[str, ...] | None:
    """The command that starts the compiler: what CXX says, or the first that is installed."""
    chosen = os.environ.get("CXX", "").strip()
    for candidate in [shlex.split(chosen)] if chosen else [[name] for name in _COMPILERS]:
        found = shutil.which(candidate[0])
        if found:
            return (found, *candidate[1:])
    return None


def _compile(compiler: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as folder:
        output = Path(folder, "native.so")
        run_compiler([*compiler, *FLAGS, str(SOURCE), "-o", str(output)], SOURCE.name)
        return output.read_bytes()


def _processor() -> str:
    """What -march=native depends on: the instructions that this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(told)))
