"""``bsr_linear`` in Triton: a program per row of blocks, for all rows of x at once."""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

import block_sparse.op  # noqa: F401 - the op must be known before its kernels
from pytest_sparsity.testing import sparse_kernel


@triton.jit
def _multiply(
    x, x_pitch, tokens, blocks, columns, starts, y, y_pitch, SIZE: tl.constexpr, ROWS: tl.constexpr
):
    row = tl.program_id(0)
    side = tl.arange(0, SIZE)
    token = tl.arange(0, ROWS)
    there = token[:, None] < tokens
    total = tl.zeros((ROWS, SIZE), tl.float32)
    for place in range(tl.load(starts + row), tl.load(starts + row + 1)):
        left = tl.load(columns + place) * SIZE
        inside = side[:, None] * SIZE + side[None, :]
        weights = tl.load(blocks + place * SIZE * SIZE + inside).to(tl.float32)
        values = tl.load(x + token[:, None] * x_pitch + left + side[None, :], there, other=0.0)
        total += tl.sum(values.to(tl.float32)[:, None, :] * weights[None, :, :], 2)
    out = y + token[:, None] * y_pitch + row * SIZE + side[None, :]
    tl.store(out, total.to(y.dtype.element_ty), there)


def _unavailable() -> str | None:
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return "needs a CUDA device, or TRITON_INTERPRET=1"


@sparse_kernel(op="bsr_linear", backend="triton", unavailable=_unavailable)
def bsr_linear(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Sums in float32."""
    size, tokens = blocks.shape[1], len(x)
    if size & (size - 1):
        raise NotImplementedError(f"blocks of {size}: only powers of two")
    if tokens > 8:
        raise NotImplementedError(f"{tokens} rows: at most 8")
    rows = len(starts) - 1
    y = x.new_empty(tokens, rows * size)
    padded = triton.next_power_of_2(tokens)
    x = x.contiguous()
    _multiply[(rows,)](
        x, x.stride(0), tokens, blocks.contiguous(), columns, starts, y, y.stride(0),
        SIZE=size, ROWS=padded, num_warps=1 if padded < 4 else 4,
    )  # fmt: skip
    return y
