"""How the outputs of a multiplication are divided among blocks and threads."""

from __future__ import annotations

import torch

#: Threads of a block, a power of two and at most kThreads of the source.
THREADS = 512
#: Enough blocks to occupy every multiprocessor of a large GPU.
_BLOCKS = 256
_LANES = (32, 16, 8, 4)


def division(outputs: int, channels: int, dtype: torch.dtype) -> tuple[int, tuple[int, int]]:
    """(grid, (lanes, groups)) for so many outputs and channels: blocks, and threads of each.

    Lanes stand side by side along the outputs, 16 bytes of weights each; groups share the
    channels.  The wider a block, the longer the pieces of memory that it reads, but the fewer
    blocks there are: the widest that still gives each multiprocessor some, and never less than
    64 bytes.
    """
    vector = 16 // dtype.itemsize

    def blocks(lanes: int) -> int:
        return -(-outputs // (lanes * vector))

    lanes = next((lanes for lanes in _LANES if blocks(lanes) >= _BLOCKS), _LANES[-1])
    groups = THREADS // lanes
    while groups >= 2 * channels:
        groups //= 2
    return blocks(lanes), (lanes, groups)
