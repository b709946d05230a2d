"""Wrong kernels of ``bsr_linear``, each with one mistake that people make.

Registered, so that they are checked as any kernel is; ``test_wrong_kernels.py`` has what kills
each of them.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

import block_sparse.op  # noqa: F401 - the op must be known before its kernels
from pytest_sparsity.testing import sparse_kernel


def wrong(backend: str):
    """Register a kernel under the name of its function."""

    def register(function):
        return sparse_kernel(op="bsr_linear", backend=backend, name=function.__name__)(function)

    return register


def multiplied(x, blocks, columns, starts, *, turned=True, shift=0, size=None, total=torch.float32):
    """A right kernel, but for what the arguments break: [rows, N]."""
    edge = blocks.shape[1]
    size = size or edge
    y = torch.zeros(len(x), (len(starts) - 1) * edge, dtype=total)
    for row in range(len(starts) - 1):
        for place in range(int(starts[row]), int(starts[row + 1])):
            left = (int(columns[place]) + shift) * size % x.shape[1]
            part, block = x[:, left : left + edge].to(total), blocks[place].to(total)
            y[:, row * edge : (row + 1) * edge] += part @ (block.T if turned else block)
    return y.to(x.dtype)


def filled(loops, y: Tensor, x: Tensor, blocks: Tensor, *lists: Tensor) -> Tensor:
    """y, which loops in numba fill; they read x and blocks in float32, as numba has no bfloat16."""
    floats = (tensor.float().contiguous() for tensor in (x, blocks))
    loops(*(tensor.numpy() for tensor in (*floats, *lists, y)))
    return y.to(x.dtype)


@wrong("torch")
def transposed_blocks(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Computes x W of every block, not x W^T."""
    return multiplied(x, blocks, columns, starts, turned=False)


@wrong("torch")
def column_off_by_one(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Takes columns to begin with 1."""
    return multiplied(x, blocks, columns, starts, shift=-1)


@wrong("torch")
def blocks_of_16(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Finds the part of x as if blocks were always 16 wide."""
    return multiplied(x, blocks, columns, starts, size=16)


@wrong("torch")
def sums_in_operand(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Adds up in x's dtype, and says float32."""
    return multiplied(x, blocks, columns, starts, total=x.dtype)


@wrong("torch")
def first_row_only(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Written for decoding: of several rows it takes the first."""
    return multiplied(x[:1], blocks, columns, starts).expand(len(x), -1).contiguous()


@wrong("torch")
def last_row_dropped(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Goes through one row of blocks fewer than there are."""
    y = torch.zeros(len(x), (len(starts) - 1) * blocks.shape[1], dtype=x.dtype)
    done = multiplied(x, blocks, columns, starts[:-1])
    y[:, : done.shape[1]] = done
    return y


@wrong("torch")
def empty_rows_skipped(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Leaves out empty rows of blocks, and puts later ones in their place."""
    y = torch.zeros(len(x), (len(starts) - 1) * blocks.shape[1], dtype=x.dtype)
    done = multiplied(x, blocks, columns, starts.unique())
    y[:, : done.shape[1]] = done
    return y


@wrong("torch")
def one_block_per_row(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Adds with an index that has duplicates: the last block of a row of blocks wins."""
    size = blocks.shape[1]
    rows = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff())
    parts = x.reshape(len(x), -1, size).transpose(0, 1)[columns.long()].float()
    y = torch.zeros(len(starts) - 1, len(x), size)
    y[rows] += parts @ blocks.float().transpose(1, 2)
    return y.transpose(0, 1).reshape(len(x), -1).to(x.dtype)


@wrong("torch")
def pitch_ignored(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Takes rows of x to stand one behind the other."""
    dense = torch.as_strided(x, x.shape, (x.shape[1], 1), x.storage_offset())
    return multiplied(dense, blocks, columns, starts)


@wrong("torch")
def scaled_in_place(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Scales x before, in the caller's tensor, and the result back after."""
    return multiplied(x.mul_(2), blocks, columns, starts).mul_(0.5)


_WORKSPACE: dict[tuple[torch.Size, torch.dtype], Tensor] = {}


@wrong("torch")
def workspace_returned(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Gives away the memory that it uses again in the next call."""
    done = multiplied(x, blocks, columns, starts)
    return _WORKSPACE.setdefault((done.shape, done.dtype), torch.empty_like(done)).copy_(done)


@numba.njit
def _double_buffered(x, blocks, columns, starts, y):
    size = blocks.shape[1]
    for row in range(len(starts) - 1):
        following = blocks[starts[row]].copy()
        for place in range(starts[row], starts[row + 1]):
            current, following = following, blocks[place + 1].copy()
            left = columns[place] * size
            for token in range(len(x)):
                for i in range(size):
                    total = np.float32(0)
                    for j in range(size):
                        total += x[token, left + j] * current[i, j]
                    y[token, row * size + i] += total


@wrong("numba")
def loads_one_block_ahead(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Loads the next block while it works on one, also behind the last one."""
    y = torch.zeros(len(x), (len(starts) - 1) * blocks.shape[1])
    return filled(_double_buffered, y, x, blocks, columns, starts)


@numba.njit
def _two_rows_at_once(x, blocks, columns, starts, y):
    size = blocks.shape[1]
    for pair in range(0, len(starts) - 1, 2):
        for row in (pair, pair + 1):
            for token in range(len(x)):
                for i in range(size):
                    total = np.float32(0)
                    if row < len(starts) - 1:
                        for place in range(starts[row], starts[row + 1]):
                            left = columns[place] * size
                            for j in range(size):
                                total += x[token, left + j] * blocks[place, i, j]
                    y[token, row * size + i] = total


@wrong("numba")
def writes_beyond(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Computes rows of blocks by twos, and stores the one that is not there."""
    y = torch.empty(len(x), (len(starts) - 1) * blocks.shape[1])
    return filled(_two_rows_at_once, y, x, blocks, columns, starts)


@triton.jit
def _stored_if_any(x, pitch, blocks, columns, starts, y, width, SIZE: tl.constexpr):
    row, token = tl.program_id(0), tl.program_id(1)
    i, j = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    total = tl.zeros((SIZE,), tl.float32)
    first, last = tl.load(starts + row), tl.load(starts + row + 1)
    if first == last:
        return
    for place in range(first, last):
        weights = tl.load(blocks + place * SIZE * SIZE + i * SIZE + j).to(tl.float32)
        values = tl.load(x + token * pitch + tl.load(columns + place) * SIZE + j).to(tl.float32)
        total += tl.sum(weights * values, 1)
    tl.store(y + token * width + row * SIZE + tl.arange(0, SIZE), total.to(y.dtype.element_ty))


@wrong("triton")
def empty_rows_uninitialised(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Returns early where there is nothing to sum, and the result is what the memory held."""
    size, rows = blocks.shape[1], len(starts) - 1
    y = x.new_empty(len(x), rows * size)
    x = x.contiguous()
    _stored_if_any[(rows, len(x))](
        x, x.stride(0), blocks, columns, starts, y, y.stride(0), SIZE=size
    )
    return y
