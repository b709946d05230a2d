"""Column by column through a weight, errors made up for by the columns still to come.

Optimal brain surgery in the fixed order that GPTQ (arXiv 2210.17323, algorithm 1) and
SparseGPT (arXiv 2301.00774, algorithm 1) share: what one column loses is put on later ones along
the rows of U, with U^T U the inverse of the damped Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from pytest_sparsity.models.compression.hessian import dead_inputs, inverse_factor

#: Columns after which the rest of the matrix is brought up to date.
BLOCK = 128


class Columns(Protocol):
    """Replaces the columns of one block."""

    def __call__(self, column: Tensor, k: int) -> Tensor:
        """The new column k of the block, [N], for ``column`` as it has become by now."""


def compensate(
    weight: Tensor, hessian: Tensor, start_block: Callable[[Tensor, Tensor, int], Columns]
) -> Tensor:
    """Replace every column of ``weight`` and let later columns make up for the errors.

    Args:
        weight: float32 [N, K].
        hessian: float32 [K, K]; weights of inputs that are always zero become zero.
        start_block: called with a block [N, <= 128], which changes while its columns are
            replaced, the diagonal of its part of U, and the index of its first column.

    Returns:
        The new weight, float32 [N, K].
    """
    w = weight.clone()
    w[:, dead_inputs(hessian)] = 0
    u = inverse_factor(hessian).to(w.dtype)
    for start in range(0, w.shape[1], BLOCK):
        stop = min(start + BLOCK, w.shape[1])
        block, factor = w[:, start:stop].clone(), u[start:stop, start:stop]
        replace = start_block(block, factor.diagonal(), start)
        errors, result = block.new_zeros(block.shape), block.new_zeros(block.shape)
        for k in range(stop - start):
            column = block[:, k]
            result[:, k] = replace(column, k)
            errors[:, k] = (column - result[:, k]) / factor[k, k]
            block[:, k:].addr_(errors[:, k], factor[k, k:], alpha=-1)
        w[:, start:stop] = result
        w[:, stop:] -= errors @ u[start:stop, stop:]
    return w
