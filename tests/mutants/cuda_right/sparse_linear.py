"""Right kernels of ``sparse_linear`` in CUDA C++, as an author outside of this package has them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from pytest_sparsity.kernels.cuda.source import CudaSource
from pytest_sparsity.kernels.registry import sparse_kernel

SOURCE = CudaSource(Path(__file__).with_name("linear.cu"))
TYPES = {torch.float32: "float", torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}
PAIRS = {torch.float16: "__half2", torch.bfloat16: "__nv_bfloat162"}
TILE, LANES, GROUPS, PARTS = 64, 8, 16, 3


def operands(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None) -> tuple:
    if x.shape[1] != weight.shape[1] or not 1 <= x.shape[0] <= 8:
        raise ValueError(f"x is {tuple(x.shape)}, and weight {tuple(weight.shape)}")
    assert x.is_cuda, "as wrappers for a GPU have it; in the emulation it holds as well"
    assert weight.is_cuda
    level = torch.tensor(threshold).to(x.dtype).item()
    bias = None if bias is None else bias.contiguous()
    result = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype, device=x.device)
    return x.contiguous(), level, bias, result


def blocks(outputs: int, each: int) -> int:
    return -(-outputs // each)


@sparse_kernel(op="sparse_linear", backend="cuda", name="warp", source=SOURCE)
def warp(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    x, level, bias, result = operands(x, weight, threshold, bias)
    rows, outputs = result.shape
    given = (x, x.shape[1], weight, *weight.stride(), outputs, level, bias, result)
    grid = (blocks(outputs, 16 // x.itemsize), rows)
    SOURCE.launch(f"warp<{TYPES[x.dtype]}>", grid, 32, given)
    return result


@sparse_kernel(op="sparse_linear", backend="cuda", name="tiled", source=SOURCE)
def tiled(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    x, level, bias, result = operands(x, weight, threshold, bias)
    rows, outputs = result.shape
    vector = 16 // x.itemsize
    given = (x, x.shape[1], weight, *weight.stride(), outputs, level, bias, result)
    shared = 2 * TILE * x.itemsize + GROUPS * LANES * vector * 4
    grid = (blocks(outputs, LANES * vector), rows)
    SOURCE.launch(f"tiled<{TYPES[x.dtype]}>", grid, (LANES, GROUPS), given, shared=shared)
    return result


@cache
def counters(device: torch.device) -> Tensor:
    """Zero between launches: the last block of each group leaves them so."""
    return torch.zeros(1 << 16, dtype=torch.int32, device=device)


@sparse_kernel(op="sparse_linear", backend="cuda", name="split", source=SOURCE, deterministic=False)
def split(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    x, level, bias, result = operands(x, weight, threshold, bias)
    rows, outputs = result.shape
    total = torch.zeros(rows, outputs, device=x.device)
    given = (x, x.shape[1], weight, *weight.stride(), outputs, level, bias, result)
    grid = (blocks(outputs, 32 * (16 // x.itemsize)), rows, PARTS)
    SOURCE.launch(f"split<{TYPES[x.dtype]}>", grid, 32, (*given, total, counters(x.device)))
    return result


@sparse_kernel(
    op="sparse_linear",
    backend="cuda",
    name="pairs",
    source=SOURCE,
    dtypes=("float16", "bfloat16"),
)
def pairs(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    x, level, bias, result = operands(x, weight, threshold, bias)
    rows, outputs = result.shape
    if weight.stride(0) != 1 or weight.stride(1) % 2 or weight.data_ptr() % 4 or outputs % 2:
        return warp(x, weight, threshold, bias)
    given = (x, x.shape[1], weight, weight.stride(1), outputs, level, bias, result)
    entry = f"pairs<{TYPES[x.dtype]}, {PAIRS[x.dtype]}>"
    SOURCE.launch(entry, (blocks(outputs, 64), rows), (8, 4), given)
    return result
