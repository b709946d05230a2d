"""Our CUDA C++ kernels by dtype and number of rows, and what nvcc says of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch

from pytest_sparsity.kernels.cuda import nvcc
from pytest_sparsity.kernels.cuda.nvcc import Resources
from pytest_sparsity.kernels.cuda.source import CudaSource

#: Of all kernels; who launches them appends the instances that are wanted.
SOURCE = CudaSource(Path(__file__).with_name("kernels.cu"))
#: What the dtypes are called in the source.
TYPES = {torch.float32: "float", torch.bfloat16: "Bfloat16", torch.float16: "Half"}
#: Numbers of rows whose instances :func:`resources` reports: the usual one, and the largest.
_REPORTED_ROWS = (1, 8)


def entry(name: str, dtype: torch.dtype, rows: int) -> str:
    """The name of the instance of kernel ``name`` for an x of this dtype and number of rows."""
    return f"{name}_{TYPES[dtype]}_{rows}"


@lru_cache(maxsize=64)
def instance(dtype: torch.dtype, rows: int) -> CudaSource:
    """The source with every kernel for an x of this dtype and number of rows."""
    return source([(dtype, rows)])


def source(instances: Iterable[tuple[torch.dtype, int]]) -> CudaSource:
    """The source with these instances, (dtype, rows), of every kernel."""
    return SOURCE.extended("".join(f"INSTANCE({TYPES[dtype]}, {n})\n" for dtype, n in instances))


def resources(arch: str) -> dict[str, Resources]:
    """What each kernel takes on ``arch`` (``sm_90``), by entry: all dtypes, one row and eight.

    Needs nvcc and no device; compiles anew every time, which takes seconds.

    Raises:
        SparsityError: there is no nvcc, or it fails.
    """
    instances = [(dtype, rows) for dtype in TYPES for rows in _REPORTED_ROWS]
    return dict(nvcc.compiled(source(instances), arch).resources)
