"""Two kernels of a product that are wrong only on a GPU, and their right twins.

Registered as ``OP/probe-...``: a product of float32 in TF32 beside one at full precision, and
programs that add their parts without order beside ones that add them by atomics.  They show that
the suite sees on a device what the interpreter says would be there.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs

OP = op_of(SparseLinearInputs).name
_BLOCK, _PARTS = 32, 4
#: The kernels by name, to whether they are right.
PROBES = {"probe-tf32": False, "probe-ieee": True, "probe-race": False, "probe-atomics": True}


@triton.jit
def _product(
    x, weight, target, rows, outputs, channels, threshold, x_row, x_channel, output_step,
    channel_step, BLOCK: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, 16)
    output = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([16, BLOCK], tl.float32)
    for start in range(tl.program_id(1) * BLOCK, channels, PARTS * BLOCK):
        channel = start + tl.arange(0, BLOCK)
        at = x + row[:, None] * x_row + channel[None, :] * x_channel
        inside = (row < rows)[:, None] & (channel < channels)[None, :]
        value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(tl.abs(value) <= threshold, 0.0, value)
        at = weight + output.to(tl.int64)[None, :] * output_step
        at += channel.to(tl.int64)[:, None] * channel_step
        inside = (channel < channels)[:, None] & (output < outputs)[None, :]
        factor = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        total = tl.dot(value, factor, total, input_precision=PRECISION)
    at = target + row[:, None] * outputs + output[None, :]
    inside = (row < rows)[:, None] & (output < outputs)[None, :]
    if ATOMIC:
        tl.atomic_add(at, total, mask=inside)
    else:
        tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)


def _register(name: str, parts: int, precision: str, atomic: bool) -> None:
    def call(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        target = torch.zeros(len(x), len(weight), dtype=torch.float32, device=x.device)
        rounded = float(torch.tensor(threshold, dtype=x.dtype))
        grid = (triton.cdiv(len(weight), _BLOCK), parts)
        steps = (*x.stride(), *weight.stride())
        _product[grid](
            *(x, weight, target, len(x), *weight.shape, rounded, *steps),
            BLOCK=_BLOCK,
            PARTS=parts,
            PRECISION=precision,
            ATOMIC=atomic,
        )
        return (target if bias is None else target + bias).to(x.dtype)

    declared: dict[str, Any] = {"backend": "triton", "skips": False, "deterministic": not atomic}
    sparse_kernel(op=OP, name=name, **declared)(call)


_register("probe-tf32", 1, "tf32", False)
_register("probe-ieee", 1, "ieee", False)
_register("probe-race", _PARTS, "ieee", False)
_register("probe-atomics", _PARTS, "ieee", True)
