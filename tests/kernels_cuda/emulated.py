"""The CUDA kernels with their threads run one after another on a CPU: arithmetic, no speed.

A module that registers kernels, so that every check for registered kernels can be run on them.
"""

from __future__ import annotations

import ctypes
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from pytest_sparsity.kernels.build import built, run_compiler
from pytest_sparsity.kernels.cuda import compiler, device, multiply, sparse_linear, sparse_swiglu
from pytest_sparsity.kernels.native import library
from pytest_sparsity.kernels.registry import sparse_kernel

SHIM = Path(__file__).with_name("emulator.h")
KERNELS = ("sparse_linear", "swiglu_neurons", "swiglu_down")
# Multiplications and additions are contracted as the GPU's compiler does.
FLAGS = ("-O2", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-w")


@cache
def emulation(dtype: torch.dtype, rows: int) -> ctypes.CDLL:
    """The instances for this dtype and number of rows, compiled for the CPU."""
    entries = [compiler.entry(name, dtype, rows) for name in KERNELS]
    text = compiler.source([(dtype, rows)]) + "".join(f"EMULATE({name})\n" for name in entries)
    key = (SHIM.read_text(), text, *FLAGS)
    return ctypes.CDLL(str(built("emulated", key, ".so", lambda: _compile(text))))


def launch(
    name: str,
    x: Tensor,
    grid: int,
    block: tuple[int, int],
    arguments: tuple[device.Argument, ...],
) -> None:
    """Runs the kernel that ``device.launch`` would launch, with the same words for arguments."""
    plain = [device.plain(argument) for argument in arguments]
    words = b"".join(struct.pack("d" if isinstance(p, float) else "q", p) for p in plain)
    function = emulation(x.dtype, x.shape[0])[
        f"emulate_{compiler.entry(name, x.dtype, x.shape[0])}"
    ]
    function(grid, *block, words)


def few_threads() -> Any:
    """Blocks of 64 threads instead of 512: fibers are slow."""
    return patch.object(multiply, "THREADS", 64)


@sparse_kernel(
    op="sparse_linear", backend="emulated", name="cuda-emulated", unavailable=library.unavailable
)
def linear(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    sparse_linear.SparseLinearInputs(x, weight, threshold, bias)
    with few_threads():
        return sparse_linear.unchecked(x, weight, threshold, bias, launch)


@sparse_kernel(
    op="sparse_swiglu", backend="emulated", name="cuda-emulated", unavailable=library.unavailable
)
def swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    sparse_swiglu.SparseSwigluInputs(x, gate, up, down, threshold, activation)
    with few_threads():
        return sparse_swiglu.unchecked(x, gate, up, down, threshold, activation, launch)


def _compile(text: str) -> bytes:
    command = library.find_compiler()
    assert command is not None
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(text)
        run_compiler(
            [*command, *FLAGS, "-include", str(SHIM), str(source), "-o", str(output)],
            "the emulated kernels",
        )
        return output.read_bytes()
