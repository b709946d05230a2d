"""The op ``bsr_linear``: y = x W^T, W stored as the blocks that are not zero.

This is all that pytest-sparsity has to know of it: a definition, and how to draw operands.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pytest_sparsity.testing import Case, Draw, Relations, sparse_op


def _check(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> None:
    if x.ndim != 2 or blocks.ndim != 3:
        raise ValueError("x must be [rows, K], and blocks [count, height, width]")
    if x.dtype != blocks.dtype:
        raise ValueError(f"blocks must be {x.dtype}, as x is, not {blocks.dtype}")
    if x.shape[1] % blocks.shape[2]:
        raise ValueError(f"K = {x.shape[1]} must be whole blocks of {blocks.shape[2]}")
    if int(starts[-1]) != len(columns) or len(columns) != len(blocks):
        raise ValueError("starts, columns and blocks must tell of as many blocks")


def _fitted(case: Case) -> Case:
    """K and N are whole blocks."""
    size = case.option("block", 16)
    return replace(case, k=-(-case.k // size) * size, n=-(-case.n // size) * size)


def _draw(draw: Draw) -> dict[str, Tensor]:
    case = draw.case
    size = case.option("block", 16)
    down, across = case.n // size, case.k // size
    kept = draw.chance(down, across) >= case.level
    if case.pattern == "none":
        kept[:] = False
    if case.pattern == "last":
        kept[-1, -1] = True
    x = (
        draw.integers(3, case.rows, case.k)
        if draw.integer
        else torch.randn(case.rows, case.k, generator=draw.generator)
    )
    count = int(kept.sum())
    weight = draw.weight(count * size, size, "output_major").reshape(count, size, size)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
    return {
        "x": x.to(draw.dtype),
        "blocks": weight.contiguous(),
        "columns": kept.nonzero()[:, 1].to(torch.int32),
        "starts": starts.to(torch.int32),
    }


@sparse_op(
    draw=_draw,
    check=_check,
    space={
        "rows": range(1, 9),
        "k": (64, 16, 32, 48, 80, 128, 160, 256),
        "n": (64, 16, 32, 48, 80, 128, 160, 256),
        "block": (16, 8, 32),
        "pattern": ("random", "none", "last"),
        "level": (0.5, 0.0, 0.25, 0.75, 0.9),
        "values": ("normal", "small", "integer"),
    },
    fitted=_fitted,
    relations=Relations(rows=True, integers={}, ends={}),
    timed={"k": 256, "n": 256, "level": 0.75},
)
def bsr_linear(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """[rows, N] for x [rows, K], blocks [count, b, b], columns [count], starts [N/b + 1]."""
    size = blocks.shape[1]
    y = x.new_zeros(len(x), (len(starts) - 1) * size)
    for row in range(len(starts) - 1):
        for place in range(int(starts[row]), int(starts[row + 1])):
            column = int(columns[place])
            part = x[:, column * size : (column + 1) * size]
            y[:, row * size : (row + 1) * size] += part @ blocks[place].T
    return y
