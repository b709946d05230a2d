"""Triton kernels of sparse_linear, right and wrong in what only a GPU would show.

Registered as ``sparse_linear/NAME`` for ``test_device_faults.py``.  None of them skips anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel

_BLOCK = 32


@triton.jit
def sums(
    x, weight, row, output, rows, outputs, begin, stop, threshold,
    x_row, x_channel, weight_output, weight_channel, BLOCK: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    """Sums over the channels from begin to stop, [16, BLOCK]: rows and outputs."""
    total = tl.zeros([16, BLOCK], tl.float32)
    for start in range(begin, stop, BLOCK):
        channel = start + tl.arange(0, BLOCK)
        at = x + row[:, None] * x_row + channel[None, :] * x_channel
        inside = (row < rows)[:, None] & (channel < stop)[None, :]
        value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(tl.abs(value) <= threshold, 0.0, value)
        if FAULT == "32 bits":
            at = weight + output[None, :] * weight_output + channel[:, None] * weight_channel
        else:
            columns = weight + output.to(tl.int64)[None, :] * weight_output
            at = columns + channel.to(tl.int64)[:, None] * weight_channel
        inside = (channel < stop)[:, None] & (output < outputs)[None, :]
        if FAULT == "undefined":
            factor = tl.load(at, mask=inside).to(tl.float32)
        elif FAULT == "undefined, chosen away":
            factor = tl.where(inside, tl.load(at, mask=inside).to(tl.float32), 0.0)
        else:
            factor = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        if FAULT == "tf32" or FAULT == "tf32x3" or FAULT == "bf16x6" or FAULT == "ieee":
            total = tl.dot(value, factor, total, input_precision=FAULT)
        elif FAULT == "dot":
            total = tl.dot(value, factor, total)
        else:
            total += tl.sum(value[:, :, None] * factor[None, :, :], axis=1)
    return total


@triton.jit
def product(
    x, weight, bias, target, rows, outputs, channels, threshold,
    x_row, x_channel, weight_output, weight_channel, BLOCK: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, 16)
    output = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = sums(
        x, weight, row, output, rows, outputs, 0, channels, threshold,
        x_row, x_channel, weight_output, weight_channel, BLOCK, FAULT,
    )  # fmt: skip
    if FAULT == "past a view":
        total += tl.load(bias + output).to(tl.float32)[None, :]
    elif bias is not None:
        # Of outputs that are not there, whatever it is: they are not stored.
        total += tl.load(bias + output, mask=output < outputs).to(tl.float32)[None, :]
    at = target + row[:, None] * outputs + output[None, :]
    inside = (row < rows)[:, None] & (output < outputs)[None, :]
    tl.store(at, total.to(target.dtype.element_ty), mask=inside)


@triton.jit
def split(
    x, weight, bias, target, parts, state, rows, outputs, channels, threshold,
    x_row, x_channel, weight_output, weight_channel, BLOCK: tl.constexpr, WAY: tl.constexpr,
):  # fmt: skip
    """Several programs have a share of the channels each, and add up in one WAY or another."""
    row = tl.arange(0, 16)
    output = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own, splits = tl.program_id(1), tl.num_programs(1)
    share = tl.cdiv(channels, splits)
    begin, stop = own * share, tl.minimum(channels, (own + 1) * share)
    if WAY == "the same by all":
        begin, stop = 0, channels
    total = sums(
        x, weight, row, output, rows, outputs, begin, stop, threshold,
        x_row, x_channel, weight_output, weight_channel, BLOCK, "none",
    )  # fmt: skip
    if bias is not None and (own == 0 or WAY == "the same by all"):
        total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    place = row[:, None] * outputs + output[None, :]
    at = target + place
    inside = (row < rows)[:, None] & (output < outputs)[None, :]
    state += tl.program_id(0)
    if WAY == "nothing orders":
        tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)
    elif WAY == "the same by all":
        tl.store(at, total, mask=inside)
    elif WAY == "a lock" or WAY == "a lock, opened early":
        while tl.atomic_cas(state, 0, 1) == 1:
            pass
        total += tl.load(at, mask=inside, other=0.0)
        if WAY == "a lock, opened early":
            tl.atomic_xchg(state, 0)
        tl.store(at, total, mask=inside)
        tl.debug_barrier()
        if WAY == "a lock":
            tl.atomic_xchg(state, 0)
    elif WAY == "a relaxed lock":
        while tl.atomic_cas(state, 0, 1, sem="relaxed") == 1:
            pass
        tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)
        tl.atomic_xchg(state, 0, sem="relaxed")
    elif WAY == "by turns":
        while tl.atomic_add(state, 0) < own:
            pass
        tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)
        tl.debug_barrier()
        tl.atomic_add(state, 1)
    elif WAY == "zeroed by the first" or WAY == "first come":
        if WAY == "zeroed by the first" and own == 0:
            tl.store(at, tl.zeros([16, BLOCK], tl.float32), mask=inside)
        tl.atomic_add(at, total, mask=inside)
    else:
        tl.store(parts + own * rows * outputs + place, total, mask=inside)
        tl.debug_barrier()
        if WAY == "the last, relaxed":
            adds = tl.atomic_add(state, 1, sem="relaxed") == splits - 1
        elif WAY == "the last":
            adds = tl.atomic_add(state, 1) == splits - 1
        else:  # "all wait"
            tl.atomic_add(state, 1)
            while tl.atomic_add(state, 0) < splits:
                pass
            adds = own == 0
        if adds:
            total = tl.zeros([16, BLOCK], tl.float32)
            for each in range(splits):
                total += tl.load(parts + each * rows * outputs + place, mask=inside, other=0.0)
            tl.store(at, total, mask=inside)


def arguments(x: Tensor, weight: Tensor, threshold: float) -> tuple[Any, ...]:
    """The arguments of a kernel from ``rows`` to ``weight_channel``."""
    rounded = float(torch.tensor(threshold, dtype=x.dtype))
    return len(x), *weight.shape, rounded, *x.stride(), *weight.stride()


def register(name: str, **declared: Any) -> Callable[[Any], Any]:
    declared = {"backend": "triton", "skips": False, **declared}
    return sparse_kernel(op="sparse_linear", name=name, **declared)


def one_launch(fault: str, name: str | None = None, **declared: Any) -> None:
    def call(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        bias = None if bias is None else bias.contiguous()
        if "view" in fault:  # of memory that holds whole tiles
            bias = x.new_zeros(len(weight)) if bias is None else bias
            bias = torch.cat([bias, x.new_zeros(_BLOCK)])[: len(weight)]
        target = x.new_empty(len(x), len(weight))
        grid = (triton.cdiv(len(weight), _BLOCK),)
        product[grid](
            x, weight, bias, target, *arguments(x, weight, threshold), BLOCK=_BLOCK, FAULT=fault
        )
        return target

    register(name or fault.replace(", ", "-").replace(" ", "-"), **declared)(call)


one_launch("none")
one_launch("undefined")
one_launch("undefined, chosen away")
one_launch("dot")
one_launch("tf32")
one_launch("tf32", name="tf32-declared", products="tf32")
one_launch("tf32x3")
one_launch("bf16x6")
one_launch("ieee")
one_launch("32 bits")
one_launch("past a view")
one_launch("within a view")


def by_splits(way: str, count: int = 4, **declared: Any) -> None:
    def call(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        bias = None if bias is None else bias.contiguous()
        blocks = triton.cdiv(len(weight), _BLOCK)
        target = x.new_zeros(len(x), len(weight), dtype=torch.float32)
        parts = x.new_empty(count, *target.shape, dtype=torch.float32)
        state = torch.zeros(blocks, dtype=torch.int32, device=x.device)
        split[(blocks, count)](
            x, weight, bias, target, parts, state, *arguments(x, weight, threshold),
            BLOCK=_BLOCK, WAY=way,
        )  # fmt: skip
        return target.to(x.dtype)

    register(way.replace(", ", "-").replace(" ", "-"), **declared)(call)


by_splits("nothing orders", deterministic=False)
by_splits("the same by all")
by_splits("a lock", deterministic=False)
by_splits("a lock, opened early", deterministic=False)
by_splits("a relaxed lock", deterministic=False)
by_splits("by turns")
by_splits("zeroed by the first", deterministic=False)
by_splits("first come")
by_splits("the last")
by_splits("the last, relaxed")
by_splits("all wait", count=9)
