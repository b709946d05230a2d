"""Operands beside, and weights on, memory that cannot be touched: one wrong read ends the process.

The processor's own check, so it holds for code of any origin and sees reads whose value is
masked out later.  To be used only in a process that may die (``checking/worker.py``).
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor

from pytest_sparsity.checking.guards import extent, place, poison
from pytest_sparsity.reference import operands

I = TypeVar("I")  # noqa: E741

#: PROT_NONE of <sys/mman.h>, the same on Linux and macOS; the mmap module lacks it.
_NO_ACCESS = 0
_libc = ctypes.CDLL(None, use_errno=True)


def fenced(inputs: I, side: Literal["begin", "end"] = "end") -> I:
    """The same operands, each directly beside an inaccessible page.

    Strides are kept, gaps between rows are poison.  Operands that end at the page are no longer
    aligned to more than an element.

    Args:
        inputs: operands on the CPU.
        side: ``end``: the byte after the last element is inaccessible; ``begin``: the one before
            the first.
    """
    _check_on_cpu(inputs)
    return operands.with_tensors(
        inputs, {name: _beside(tensor, side) for name, tensor in operands.tensors(inputs).items()}
    )


def without_skipped(inputs: I, needed: Mapping[str, Tensor]) -> I:
    """The same operands, with weights that need not be read on inaccessible pages.

    A page is inaccessible if no needed element is on it, so shapes must be chosen such that the
    weights of a channel fill pages (``mmap.PAGESIZE`` bytes; a weight begins at one).  On the
    other pages what is not needed is poison.

    Args:
        inputs: operands on the CPU.
        needed: which elements of which tensor may be read, as ``Op.needed`` tells.
    """
    _check_on_cpu(inputs)
    weights = {
        name: _beside(tensor, "begin")
        for name, tensor in operands.tensors(inputs).items()
        if name in needed and tensor.numel()
    }
    # Only now inaccessible: constructing the operands may look at them.
    placed = operands.with_tensors(inputs, weights)
    for name, weight in weights.items():
        _forbid(weight, needed[name])
    return placed


def _beside(tensor: Tensor, side: Literal["begin", "end"]) -> Tensor:
    """A copy of ``tensor`` on pages of its own, between two that are inaccessible."""
    if tensor.numel() == 0:
        return tensor
    page = mmap.PAGESIZE
    size = extent(tensor) * tensor.element_size()
    inner = -(-size // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    # The storage must not contain the outer pages: Triton's interpreter handles whole storages.
    # It keeps ``memory`` alive, which is unmapped with the last tensor in it.
    usable = torch.frombuffer(memory, dtype=torch.uint8, offset=page, count=inner)
    _protect(usable.data_ptr() - page, page)
    _protect(usable.data_ptr() + inner, page)
    usable.fill_(poison(tensor.dtype))
    return place(tensor, usable[inner - size :] if side == "end" else usable[:size])


def _forbid(weight: Tensor, needed: Tensor) -> None:
    """Poison what is not needed and make pages without anything needed inaccessible.

    Args:
        weight: begins at a page.
        needed: bool of its shape.
    """
    floats = weight.is_floating_point()
    weight.masked_fill_(~needed, math.nan if floats else torch.iinfo(weight.dtype).max)
    per_page = mmap.PAGESIZE // weight.element_size()
    pages = -(-extent(weight) // per_page)
    flat = torch.zeros(pages * per_page, dtype=torch.bool)
    flat.as_strided(weight.shape, weight.stride()).copy_(needed)
    for index, used in enumerate(flat.view(pages, per_page).any(1).tolist()):
        if not used:
            _protect(weight.data_ptr() + index * mmap.PAGESIZE, mmap.PAGESIZE)


def _check_on_cpu(inputs: object) -> None:
    for name, tensor in operands.tensors(inputs).items():
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} must be on the CPU, not on {tensor.device}")


def _protect(address: int, size: int) -> None:
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), _NO_ACCESS) != 0:
        raise OSError(ctypes.get_errno(), f"mprotect of {size} bytes failed")
