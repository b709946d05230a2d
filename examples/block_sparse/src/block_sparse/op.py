"""The op ``bsr_linear``: y = x W^T, W stored as the blocks that are not zero.

This is all that pytest-sparsity has to know of it: a definition, how to draw operands, and which
relations between results hold.  The bound of its error is computed from the definition.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.testing import Case, Draw, Parts, Relations, sparse_op


def check(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> None:
    """Raise ValueError for operands that the op is not defined for."""
    if x.ndim != 2 or blocks.ndim != 3 or blocks.shape[1] != blocks.shape[2]:
        raise ValueError("x must be [rows, K], and blocks [count, size, size]")
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
    kept = draw.chance(case.n // size, case.k // size) >= case.level
    if case.pattern == "none":
        kept[:] = False
    if case.pattern == "last":
        kept[-1, -1] = True
    if case.pattern == "alternating":  # every second row of blocks is empty
        kept[::2] = False
    x = (
        draw.integers(3, case.rows, case.k)
        if draw.integer
        else torch.randn(case.rows, case.k, generator=draw.generator)
    )
    count = int(kept.sum())
    weight = draw.weight(count * size, size, "output_major").reshape(count, size, size)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
    return {
        "x": draw.activations_arranged(x.to(draw.dtype)),
        "blocks": draw.packed(weight),
        "columns": draw.packed(kept.nonzero()[:, 1].to(torch.int32)),
        "starts": draw.packed(starts.to(torch.int32)),
    }


def _scaled(inputs: Any, factor: float) -> Any:
    inputs.x.mul_(factor)
    return inputs


def _part(inputs: Any, start: int, stop: int) -> Any:
    """The layer with only the blocks from start to stop."""
    return replace(
        inputs,
        blocks=inputs.blocks[start:stop],
        columns=inputs.columns[start:stop],
        starts=inputs.starts.clamp(start, stop) - start,
    )


@sparse_op(
    draw=_draw,
    check=check,
    space={
        "rows": range(1, 9),
        "k": (64, 16, 32, 48, 80, 128, 160, 256),
        "n": (64, 16, 32, 48, 80, 128, 160, 256),
        "block": (16, 8, 32),
        "pattern": ("random", "none", "last", "alternating"),
        "level": (0.5, 0.0, 0.25, 0.75, 0.9),
        "values": ("normal", "small", "integer"),
        "layout": ("best", "pitch", "offset", "strided"),
    },
    fitted=_fitted,
    relations=Relations(
        rows=True,
        integers={},
        ends={},
        parts=Parts("blocks", lambda inputs: len(inputs.blocks), _part),
        scaled=_scaled,
        only_up=True,  # the smallest of x would lose digits
    ),
    compiled=(
        {"k": 256, "n": 256, "block": 16, "dtype": "bfloat16", "rows": 1},
        {"k": 256, "n": 256, "block": 32, "dtype": "float16", "rows": 1},
        {"k": 256, "n": 256, "block": 32, "dtype": "bfloat16", "rows": 8},
    ),
    timed={"k": 256, "n": 256, "level": 0.75},
)
def bsr_linear(x: Tensor, blocks: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """[rows, N] for x [rows, K], blocks [count, b, b], columns [count], starts [N/b + 1]."""
    size = blocks.shape[1]
    counts = starts.diff()
    among = torch.arange(int(counts.max()), device=x.device)
    stored = among < counts[:, None]  # [N/b, most blocks of a row]
    place = torch.where(stored, starts[:-1, None] + among, 0).long()
    # What fills up shorter rows is zero in both, so that a NaN stays in its own row of blocks.
    weights = torch.where(stored[..., None, None], blocks[place], 0.0)
    parts = x.reshape(len(x), -1, size)[:, columns[place].long()]
    parts = torch.where(stored[..., None], parts, 0.0)
    return torch.einsum("trcj,rcij->tri", parts, weights).reshape(len(x), -1)
