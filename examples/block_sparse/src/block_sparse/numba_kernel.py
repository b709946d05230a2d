"""``bsr_linear`` compiled by numba."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

import block_sparse.op  # noqa: F401 - the op must be known before its kernels
from pytest_sparsity.testing import sparse_kernel


@numba.njit
def _multiply(x, blocks, columns, starts, y):
    size = blocks.shape[1]
    for row in range(len(starts) - 1):
        for place in range(starts[row], starts[row + 1]):
            left = columns[place] * size
            for token in range(x.shape[0]):
                for i in range(size):
                    total = np.float32(0)
                    for j in range(size):
                        total += x[token, left + j] * blocks[place, i, j]
                    y[token, row * size + i] += total


@sparse_kernel(op="bsr_linear", backend="numba")
def bsr_linear(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """Sums in float32, block by block."""
    size = blocks.shape[1]
    y = torch.zeros(len(x), (len(starts) - 1) * size)
    wide = [each.detach().float().contiguous().numpy() for each in (x, blocks)]
    _multiply(*wide, columns.numpy(), starts.numpy(), y.numpy())
    return y.to(x.dtype)
