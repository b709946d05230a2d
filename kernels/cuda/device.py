"""Launching a compiled kernel on torch's current stream, through cuda-core."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda import compiler

#: An argument of a kernel: a tensor's address (None: null), an integer, a threshold.
Argument = Tensor | int | float | None
#: Runs (kernel, x, grid, block, arguments): the instance for x's dtype and number of rows.
Launch = Callable[[str, Tensor, int, tuple[int, int], tuple[Argument, ...]], None]


@cache
def unavailable() -> str | None:
    """What is missing to run CUDA kernels here, or None."""
    missing = []
    if not torch.cuda.is_available():
        missing.append("no CUDA device")
    if not _installed("cuda.core"):
        missing.append("no cuda-core (pip install 'pytest-sparsity[cuda]')")
    if compiler.nvcc() is None and not _has_nvrtc():
        missing.append("no CUDA compiler (put nvcc on the PATH, or install NVRTC)")
    return "; ".join(missing) or None


def check_on_device(x: Tensor) -> None:
    """Raise ValueError unless ``x`` is on a CUDA device."""
    if x.device.type != "cuda":
        raise ValueError(f"x must be on a CUDA device for a CUDA kernel, not on {x.device}")


def launch(
    name: str, x: Tensor, grid: int, block: tuple[int, int], arguments: tuple[Argument, ...]
) -> None:
    """Launch the instance of kernel ``name`` for x's dtype and rows on torch's current stream.

    Compiled at the first call with this dtype, number of rows and architecture.

    Raises:
        SparsityError: something is missing, or it cannot be compiled or kept.
    """
    with torch.cuda.device(x.device):
        kernel = _kernel(name, x.dtype, x.shape[0], x.device.index)
        from cuda.core import LaunchConfig
        from cuda.core import launch as start

        stream = _Stream(torch.cuda.current_stream().cuda_stream)
        start(stream, LaunchConfig(grid=grid, block=block), kernel, *map(plain, arguments))


def plain(argument: Argument) -> int | float:
    """``argument`` as the 64-bit integer or double that a kernel takes it for."""
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    return 0 if argument is None else argument


class _Stream:
    """torch's stream in the protocol of cuda-core; torch's own has it only in later versions."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@cache
def _kernel(name: str, dtype: torch.dtype, rows: int, index: int) -> Any:
    if reason := unavailable():
        raise SparsityError(f"CUDA kernels: {reason}")
    from cuda.core import Device, ObjectCode

    Device(index).set_current()
    major, minor = torch.cuda.get_device_capability(index)
    path = compiler.cubin(dtype, rows, f"sm_{major}{minor}")
    code = ObjectCode.from_cubin(path.read_bytes())
    return code.get_kernel(compiler.entry(name, dtype, rows))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


def _has_nvrtc() -> bool:
    if not _installed("cuda.bindings") or not _installed("cuda.pathfinder"):
        return False
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("nvrtc")
    except DynamicLibNotFoundError:
        return False
    return True
