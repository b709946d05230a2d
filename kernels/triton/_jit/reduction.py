"""The sum of what the splits of a product gave, in an order that does not depend on timing."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def reduce(
    parts,  # float32 [splits, results]
    scales,  # [outputs] or None
    bias,  # [outputs] or None
    target,  # [results]
    results,  # rows * outputs
    outputs,
    splits,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    split = tl.arange(0, SPLITS)[:, None]
    result = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    output = result % outputs
    inside = result < results
    part = tl.load(parts + split * results + result, mask=(split < splits) & inside, other=0.0)
    total = tl.sum(part, axis=0, keep_dims=True)
    if scales is not None:
        total *= tl.load(scales + output, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        total += tl.load(bias + output, mask=inside, other=0.0).to(tl.float32)
    tl.store(target + result, total.to(target.dtype.element_ty), mask=inside)
