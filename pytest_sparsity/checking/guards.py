"""Guards of memory: poison around what a kernel reads and in what it allocates, canaries behind.

A kernel that reads beside its operands, or what it never wrote, gets NaN, which spoils its result
visibly instead of once in a while.  A kernel that writes beside its tensors is caught by the
changed bytes.  Everything is plain tensors with larger storages: pointers, strides, alignment
and views are what a kernel of any backend sees otherwise, on CPU and CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.interception import Interception

I = TypeVar("I")  # noqa: E741

#: A tensor keeps its address modulo this many bytes: what a vector load or a cache line asks.
_ALIGNMENT = 64
#: Bytes: a margin is as large as its tensor, but at least this, at most 16 times this, and a
#: multiple of it, so that what is inside stays as aligned as the allocator made it.
_MARGIN = 4096

#: Not the poison: a kernel that reads poison and computes with it writes the same NaN again.
#: Read by mistake it is NaN (float16) or huge (all else).
_CANARY = 0x7F


class Overrun(Exception):
    """A kernel wrote outside a tensor: which one, and how far outside."""


def poison(dtype: torch.dtype) -> int:
    """The byte that, repeated, is NaN in a float ``dtype`` and extreme in an integer one."""
    if dtype == torch.bool:
        return 1
    if dtype.is_floating_point or dtype.is_complex or not dtype.is_signed:
        return 0xFF
    return 0x80


def extent(tensor: Tensor) -> int:
    """Elements from the first to the last of ``tensor`` in memory, gaps of its strides included."""
    if tensor.numel() == 0:
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


def place(tensor: Tensor, memory: Tensor) -> Tensor:
    """A copy of ``tensor``, its strides kept, at the beginning of ``memory``.

    Args:
        tensor: what to copy.
        memory: uint8 [bytes], aligned to the tensor's elements.  Bytes that belong to no element
            (gaps between rows) are left as they are.
    """
    home = _laid_out(tensor, memory)
    # A broadcast dimension is one element in memory, and may be written once only.
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
    home[once].copy_(tensor[once])
    return home


def guarded(inputs: I) -> I:
    """The same operands inside larger storages: margins and gaps between rows are poison.

    Shapes, strides, devices and addresses modulo 64 bytes are kept.
    """
    return operands.with_tensors(
        inputs, {name: _surrounded(tensor) for name, tensor in operands.tensors(inputs).items()}
    )


def check_margins(inputs: Any) -> None:
    """Check that nothing around the operands from :func:`guarded` was written.

    Raises:
        Overrun: a byte of a margin or gap changed.
    """
    for name, tensor in operands.tensors(inputs).items():
        memory = _bytes_of(tensor)
        clean = _bytes_of(_surrounded(tensor))
        if not torch.equal(memory, clean):
            changed = (memory != clean).nonzero().flatten().tolist()
            start = int(tensor.storage_offset()) * tensor.element_size()
            stop = start + extent(tensor) * tensor.element_size()
            where = _outside(changed, start, stop) or "between the rows"
            raise Overrun(f"wrote {where} of the operand {name}, {_described(tensor)}")


@contextmanager
def watched_outputs() -> Iterator[None]:
    """Inside, tensors that the kernel allocates are poisoned and have canaries around them.

    ``empty`` and its kin hold NaN (integers: extreme values) instead of whatever was there.  Only
    this thread's allocations through torch are seen.

    Raises:
        Overrun: on leaving, if something was written beside one of these tensors.
    """
    mode = _Allocations()
    with mode:
        yield
    mode.check()


_aten = torch.ops.aten
#: Allocations that leave memory as it is.
_UNINITIALISED = frozenset(
    {
        _aten.empty.memory_format,
        _aten.empty_like.default,
        _aten.empty_permuted.default,
        _aten.empty_strided.default,
        _aten.new_empty.default,
        _aten.new_empty_strided.default,
    }
)
#: Allocations with content: what accumulators begin with.
_INITIALISED = frozenset(
    {
        _aten._to_copy.default,
        _aten.clone.default,
        _aten.full.default,
        _aten.full_like.default,
        _aten.new_full.default,
        _aten.new_ones.default,
        _aten.new_zeros.default,
        _aten.ones.default,
        _aten.ones_like.default,
        _aten.zeros.default,
        _aten.zeros_like.default,
    }
)


@dataclass(frozen=True)
class _Allocation:
    """A tensor the kernel allocated: the bytes start:stop of ``memory``."""

    memory: Tensor
    start: int
    stop: int
    described: str

    def check(self) -> None:
        """Raise Overrun if a canary died."""
        before, after = self.memory[: self.start], self.memory[self.stop :]
        if bool((before == _CANARY).all()) and bool((after == _CANARY).all()):
            return
        changed = (self.memory != _CANARY).nonzero().flatten().tolist()
        raise Overrun(
            f"wrote {_outside(changed, self.start, self.stop)} of the {self.described} "
            "that it allocated"
        )


class _Allocations(Interception):
    """Moves what is allocated into memory with canaries."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[_Allocation] = []

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What it allocates is moved."""
        if func.namespace not in ("aten", "prims", "prim"):
            return self._inside(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _UNINITIALISED:
            return self._moved(result, keep=False)
        if func in _INITIALISED:
            return self._moved(result, keep=True)
        return result

    def check(self) -> None:
        """Raise Overrun if a canary of any tensor died."""
        for made in self._made:
            made.check()

    def _inside(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an op of a library with this mode on, so that its allocations are seen too.

        A mode is off while it handles an op; switched on again it would be handed the same op.
        So the op's implementation for the device is called, and not the op.
        """
        devices = {value.device.type for value in (*args, *kwargs.values()) if _plain(value)}
        if len(devices) != 1:
            return func(*args, **kwargs)
        key = getattr(torch._C.DispatchKey, devices.pop().upper())
        with self:
            return func.redispatch(torch._C.DispatchKeySet(key), *args, **kwargs)

    def _moved(self, tensor: Tensor, keep: bool) -> Tensor:
        if not _plain(tensor) or tensor.numel() == 0:
            return tensor
        size = extent(tensor) * tensor.element_size()
        margin = _margin(size)
        memory = torch.full((size + 2 * margin,), _CANARY, dtype=torch.uint8, device=tensor.device)
        inside = memory[margin : margin + size]
        if keep:
            moved = place(tensor, inside)
        else:
            inside.fill_(poison(tensor.dtype))
            moved = _laid_out(tensor, inside)
        self._made.append(_Allocation(memory, margin, margin + size, _described(tensor)))
        return moved


def _plain(value: Any) -> bool:
    """Whether ``value`` is a tensor with memory that strides describe."""
    return type(value) is Tensor and value.layout == torch.strided and not value.is_meta


def _surrounded(tensor: Tensor) -> Tensor:
    if tensor.numel() == 0:
        return tensor
    size = extent(tensor) * tensor.element_size()
    margin = _margin(size)
    start = margin + tensor.data_ptr() % _ALIGNMENT
    memory = torch.full(
        (start + size + margin,), poison(tensor.dtype), dtype=torch.uint8, device=tensor.device
    )
    return place(tensor, memory[start : start + size])


def _laid_out(tensor: Tensor, memory: Tensor) -> Tensor:
    """``memory``, uint8, seen with the shape, strides and dtype of ``tensor``."""
    typed = memory.view(tensor.dtype)
    return typed.as_strided(tensor.shape, tensor.stride(), typed.storage_offset())


def _margin(size: int) -> int:
    """Bytes of margin around ``size`` bytes."""
    return min(-(-size // _MARGIN) * _MARGIN, 16 * _MARGIN)


def _bytes_of(tensor: Tensor) -> Tensor:
    """The whole storage of ``tensor``, uint8."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} tensor of shape {tuple(tensor.shape)}"


def _outside(changed: Sequence[int], start: int, stop: int) -> str:
    """How far the ``changed`` bytes reach outside of start:stop; empty if they do not."""
    before = max((start - byte for byte in changed if byte < start), default=0)
    after = max((byte + 1 - stop for byte in changed if byte >= stop), default=0)
    parts = [f"up to {before} bytes before the beginning"] if before else []
    parts += [f"up to {after} bytes past the end"] if after else []
    return " and ".join(parts)
