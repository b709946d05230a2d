"""``bsr_linear`` in Triton: a program per row of blocks and row of x."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

import block_sparse.op  # noqa: F401 - the op must be known before its kernels
from pytest_sparsity.testing import sparse_kernel


@triton.jit
def _multiply(x, x_pitch, blocks, columns, starts, y, y_pitch, SIZE: tl.constexpr):
    row, token = tl.program_id(0), tl.program_id(1)
    i, j = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    total = tl.zeros((SIZE,), tl.float32)
    first, last = tl.load(starts + row), tl.load(starts + row + 1)
    for place in range(first, last):
        column = tl.load(columns + place)
        weights = tl.load(blocks + place * SIZE * SIZE + i * SIZE + j).to(tl.float32)
        values = tl.load(x + token * x_pitch + column * SIZE + j).to(tl.float32)
        total += tl.sum(weights * values, 1)
    tl.store(y + token * y_pitch + row * SIZE + tl.arange(0, SIZE), total.to(y.dtype.element_ty))


def _unavailable() -> str | None:
    from os import environ

    if torch.cuda.is_available() or environ.get("TRITON_INTERPRET") == "1":
        return None
    return "needs a CUDA device, or TRITON_INTERPRET=1"


@sparse_kernel(op="bsr_linear", backend="triton")
def bsr_linear(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Sums in float32."""
    size = blocks.shape[1]
    if size & (size - 1):
        raise NotImplementedError(f"blocks of {size}: only powers of two")
    rows = len(starts) - 1
    y = x.new_empty(len(x), rows * size)
    x = x.contiguous()
    _multiply[(rows, len(x))](
        x, x.stride(0), blocks.contiguous(), columns, starts, y, y.stride(0), SIZE=size
    )
    return y
