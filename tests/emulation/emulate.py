"""Launches a kernel given as text in the emulation, for the tests of this folder."""

from __future__ import annotations

import re

import pytest

from pytest_sparsity.checking.emulation import launching
from pytest_sparsity.checking.emulation.launching import CudaFault
from pytest_sparsity.kernels.cuda.source import Argument, CudaSource, Size


def emulate(
    text: str, *arguments: Argument, grid: Size = 1, block: Size = 32, shared: int = 0,
    seed: int = 0, entry: str = "kernel", orders: int = 3,
) -> None:  # fmt: skip
    """Runs the kernel in this many orders of threads, one after another."""
    launching.begin(seed)
    with launching.emulating():
        for _ in range(orders):
            CudaSource(text).launch(entry, grid, block, arguments, shared=shared)


def fault(
    text: str, *arguments: Argument, grid: Size = 1, block: Size = 32, shared: int = 0
) -> str:
    """What is found wrong with the kernel; thread (1, 0, 0) of block (2, 0, 0) is thread 1:2."""
    with pytest.raises(CudaFault) as caught:
        emulate(text, *arguments, grid=grid, block=block, shared=shared)
    return re.sub(
        r"thread \((\d+), 0, 0\) of block \((\d+), 0, 0\)", r"thread \1:\2", str(caught.value)
    )
