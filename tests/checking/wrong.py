"""Kernels of sparse_linear that are wrong in one way each, for the tests of the checks."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference import operands


def registered(name: str, **declared: Any) -> Callable[[Any], Any]:
    return sparse_kernel(op="sparse_linear", backend="test", name=name, **declared)


def product(x: Tensor, weight: Tensor, keep: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = [
        weight[:, kept].double() @ row[kept].double() for row, kept in zip(x, keep, strict=True)
    ]
    out = torch.stack(rows)
    return (out if bias is None else out + bias.double()).to(x.dtype)


@registered("right")
def right(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return product(x, weight, operands.active(x, threshold), bias)


@registered("not-strict")
def not_strict(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    t = torch.tensor(threshold, dtype=x.dtype)
    return product(x, weight, ~(x.abs() < t), bias)


@registered("last-channel")
def last_channel(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    keep = operands.active(x, threshold)
    keep[:, -1] = False
    return product(x, weight, keep, bias)


@registered("nan-of-one")
def nan_of_one(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    out = right(x, weight, threshold, bias)
    return out if x.shape[1] > 1 else torch.full_like(out, torch.nan)


@registered("no-bias")
def no_bias(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return product(x, weight, operands.active(x, threshold))


@registered("half-sums")
def half_sums(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    kept = torch.where(operands.active(x, threshold), x, 0.0)
    parts = [
        (a.float() @ b.float().T).bfloat16()
        for a, b in zip(kept.split(16, 1), weight.split(16, 1), strict=True)
    ]
    out = torch.stack(parts).sum(0)
    return (out.float() if bias is None else out + bias.float()).to(x.dtype)


@registered("first-rows-mask")
def first_rows_mask(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    return product(x, weight, operands.active(x[:1], threshold).expand(x.shape), bias)


_buffers: dict[Any, Tensor] = {}


@registered("stale-buffer")
def stale_buffer(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    out = right(x, weight, threshold, bias)
    return _buffers.setdefault((out.shape, out.dtype), out).copy_(out)


@registered("in-place")
def in_place(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return right(x.masked_fill_(~operands.active(x, threshold), 0.0), weight, threshold, bias)


@registered("no-pitch")
def no_pitch(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    outputs, channels = weight.shape
    if weight.stride(0) == 1:
        weight = weight.as_strided((outputs, channels), (1, outputs))
    return right(x, weight, threshold, bias)


@registered("nan-dropped")
def nan_dropped(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    return product(x, weight, operands.active(x, threshold) & ~x.isnan(), bias)


@registered("one-percent")
def one_percent(**given: Any) -> Tensor:
    return (right(**given).double() * 1.01).to(given["x"].dtype)


@registered("last-bit")
def last_bit(**given: Any) -> Tensor:
    out = right(**given)
    return out if out.dtype != torch.float32 else torch.nextafter(out, out * 2)


@registered("hidden-constant")
def hidden_constant(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    return right(x, weight, max(threshold, 0.2), bias)


@registered("bias-off-by-a-bit")
def bias_off_by_a_bit(**given: Any) -> Tensor:
    out = right(**given)
    nothing_else = not operands.active(given["x"], given["threshold"]).any()
    return torch.nextafter(out, out * 2) if nothing_else and out.dtype != torch.bfloat16 else out


@registered("unsteady")
def unsteady(**given: Any) -> Tensor:
    out = right(**given)
    up = torch.rand(out.shape) < 0.5
    return torch.where(up, torch.nextafter(out, torch.full_like(out, torch.inf)), out)


@registered("multiplies-by-zero")
def multiplies_by_zero(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    kept = torch.where(operands.active(x, threshold), x, 0.0)
    return product(kept, weight, torch.ones_like(kept, dtype=torch.bool), bias)


@registered("writes-past")
def writes_past(**given: Any) -> Tensor:
    result = right(**given)
    out = torch.empty_like(result)
    ctypes.memset(out.data_ptr() + out.nbytes, 0, out.element_size())
    return out.copy_(result)


@registered("reads-beside")
def reads_beside(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    out = right(x, weight, threshold, bias)
    beside = x.as_strided((1,), (1,), x.storage_offset() + x.shape[1]) if x.shape[1] % 4 else 0.0
    return out + 0 * beside if x.shape[0] == 1 and x.stride(0) >= 1 else out


@registered("raises")
def raises(**given: Any) -> Tensor:
    if given["x"].shape[1] > 4:
        raise RuntimeError("no tile fits")
    return right(**given)


@registered("one-row", max_rows=1)
def one_row(**given: Any) -> Tensor:
    return right(**(given | {"x": given["x"][:1]}))


@registered("refuses-rows", max_rows=1)
def refuses_rows(**given: Any) -> Tensor:
    if len(given["x"]) > 1:
        raise NotImplementedError("one row only")
    return right(**given)


@registered("nothing")
def nothing(**given: Any) -> None:
    return None


@registered("other-dtype", dtypes=("bfloat16",))
def other_dtype(**given: Any) -> Tensor:
    return right(**given).float()


@registered("absent", unavailable=lambda: "no such hardware here")
def absent(**given: Any) -> Tensor:
    raise AssertionError
