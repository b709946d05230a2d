"""``compact`` in Triton: a running count by one program, so that the list is in order."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.reference.compact import CompactInputs
from pytest_sparsity.reference.precision import round_to


@sparse_kernel(op="compact", backend="triton", unavailable=launching.unavailable)
def compact(x: Tensor, threshold: float) -> Tensor:
    """The channels of x [1 to 8 rows, K] that are active in some row: int32 [count], ascending.

    Waits for the GPU to know the count.

    Raises:
        ValueError, TypeError: the operands are not what ``CompactInputs`` asks for, or not on a
            GPU.
    """
    launching.check(CompactInputs(x, threshold))
    from pytest_sparsity.kernels.triton._jit.compaction import compaction

    rows, channels = x.shape
    indices = x.new_empty(channels, dtype=torch.int32)
    count = x.new_empty(1, dtype=torch.int32)
    plan = configurations.compaction(rows, channels)
    launching.launch(
        compaction,
        (1,),
        x,
        *(indices, count, rows, channels, round_to(threshold, x.dtype), *x.stride()),
        warps=plan.warps,
        ROWS=plan.rows,
        BLOCK=plan.block,
    )
    return indices[: int(count)]
