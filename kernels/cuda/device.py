"""Launching a compiled kernel on torch's current stream, through cuda-core."""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda import nvcc
from pytest_sparsity.kernels.cuda.cubin import cubin
from pytest_sparsity.kernels.cuda.source import Argument, CudaSource, Launch


@cache
def unavailable() -> str | None:
    """What is missing to run CUDA kernels here, or None."""
    missing = []
    if not torch.cuda.is_available():
        missing.append("no CUDA device")
    if not _installed("cuda.core"):
        missing.append("no cuda-core (pip install 'pytest-sparsity[cuda]')")
    if nvcc.find() is None and not _has_nvrtc():
        missing.append("no CUDA compiler (put nvcc on the PATH, or install NVRTC)")
    return "; ".join(missing) or None


def launch(wanted: Launch) -> None:
    """Launch a kernel on torch's current stream, on the device of its first tensor.

    Compiled at its first launch on an architecture.

    Raises:
        SparsityError: something is missing, or it cannot be compiled or kept.
    """
    first = next((each for each in wanted.arguments if isinstance(each, Tensor)), None)
    index = torch.cuda.current_device() if first is None else first.device.index
    with torch.cuda.device(index):
        kernel, sizes = _kernel(wanted.source, wanted.entry, index)
        from cuda.core import LaunchConfig
        from cuda.core import launch as start

        stream = _Stream(torch.cuda.current_stream().cuda_stream)
        config = LaunchConfig(grid=wanted.grid, block=wanted.block, shmem_size=wanted.shared)
        start(stream, config, kernel, *map(_passed, wanted.arguments, sizes))


def _passed(argument: Argument, size: int) -> Any:
    """``argument`` as a parameter of so many bytes takes it."""
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    if argument is None:
        return 0
    if isinstance(argument, bytes):
        return (ctypes.c_byte * len(argument)).from_buffer_copy(argument)
    if isinstance(argument, float) and size == 4:
        return ctypes.c_float(argument)
    if isinstance(argument, int) and size < 8:
        return {1: ctypes.c_int8, 2: ctypes.c_int16, 4: ctypes.c_int32}[size](argument)
    return argument


class _Stream:
    """torch's stream in the protocol of cuda-core; torch's own has it only in later versions."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@cache
def _kernel(source: CudaSource, entry: str, index: int) -> tuple[Any, tuple[int, ...]]:
    """The kernel on this device, and the bytes of each of its parameters."""
    if reason := unavailable():
        raise SparsityError(f"CUDA kernels: {reason}")
    from cuda.core import Device, ObjectCode

    Device(index).set_current()
    major, minor = torch.cuda.get_device_capability(index)
    path = cubin(source, f"sm_{major}{minor}")
    kernel = ObjectCode.from_cubin(path.read_bytes()).get_kernel(entry)
    return kernel, tuple(each.size for each in kernel.arguments_info)


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
