"""Block pointers in Triton's interpreter, also where Triton has them no more (since 3.9).

``tl.make_block_ptr`` gives a tile of a larger tensor, ``tl.advance`` moves it, and ``tl.load`` and
``tl.store`` take it with ``boundary_check``, the dimensions in which what is outside of the tensor
is left out.  Here a tile becomes a block of ordinary pointers and a mask.  What is left out without
``padding_option`` is undefined, as Triton has it, like lanes that are masked off without ``other``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import triton.language as tl
from triton.language import core
from triton.runtime.interpreter import TensorHandle


@dataclass(frozen=True)
class BlockPointer:
    """A tile.

    Attributes:
        base: pointer to the tensor's first element, a scalar of Triton.
        sizes: of the tensor, by dimension.
        strides: in elements.
        offsets: of the tile's first element.
        block: the tile's sizes.
    """

    base: Any
    sizes: Sequence[int]
    strides: Sequence[int]
    offsets: Sequence[int]
    block: Sequence[int]

    @property
    def type(self) -> Any:
        """Of Triton: a pointer to a block."""
        return tl.pointer_type(tl.block_type(self.base.dtype.element_ty, list(self.block)))

    dtype = type

    def advance(self, offsets: Any) -> BlockPointer:
        """The tile that begins so much further on."""
        steps = zip(self.offsets, _numbers(offsets), strict=True)
        return replace(self, offsets=[offset + step for offset, step in steps])

    def pointers(self, boundary_check: Any) -> tuple[Any, Any]:
        """Triton's block of pointers, and its mask, None if nothing is left out."""
        element = max(1, self.base.dtype.element_ty.primitive_bitwidth // 8)
        address = np.zeros(list(self.block), np.int64)
        inside = np.ones(list(self.block), bool)
        checked = _numbers(boundary_check)
        for axis, (first, count) in enumerate(zip(self.offsets, self.block, strict=True)):
            along = [1] * len(self.block)
            along[axis] = count
            index = np.arange(first, first + count, dtype=np.int64).reshape(along)
            address += index * (self.strides[axis] * element)
            if axis in checked:
                inside &= (index >= 0) & (index < self.sizes[axis])
        address = self.base.handle.data.astype(np.uint64) + address.astype(np.uint64)
        pointers = _block(TensorHandle(address, self.base.dtype), self.base.dtype)
        return pointers, _block(TensorHandle(inside, tl.int1), tl.int1) if checked else None


def install() -> None:
    """Give the interpreter of this process block pointers of its own."""
    for module in (tl, core):
        module.make_block_ptr = core.builtin(_make_block_ptr)
        module.advance = core.builtin(_advance)
        module.load = core.builtin(_load(module.load))
        module.store = core.builtin(_store(module.store))


def _make_block_ptr(
    base: Any,
    shape: Any,
    strides: Any,
    offsets: Any,
    block_shape: Any,
    order: Any,
    _semantic: Any = None,
) -> BlockPointer:
    return BlockPointer(base, *map(_numbers, (shape, strides, offsets, block_shape)))


def _advance(base: BlockPointer, offsets: Any, _semantic: Any = None) -> BlockPointer:
    return base.advance(offsets)


def _load(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def loaded(
        pointer: Any,
        mask: Any = None,
        other: Any = None,
        boundary_check: Any = (),
        padding_option: Any = "",
        **options: Any,
    ) -> Any:
        if not isinstance(pointer, BlockPointer):
            options |= {"boundary_check": boundary_check} if boundary_check else {}
            options |= {"padding_option": padding_option} if padding_option else {}
            return load(pointer, mask, other, **options)
        pointers, inside = pointer.pointers(boundary_check)
        padding = {"zero": 0.0, "nan": float("nan")}.get(_plain(padding_option))
        return load(pointers, inside, padding if inside is not None else None, **options)

    return loaded


def _store(store: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(store)
    def stored(
        pointer: Any, value: Any, mask: Any = None, boundary_check: Any = (), **options: Any
    ) -> Any:
        if not isinstance(pointer, BlockPointer):
            options |= {"boundary_check": boundary_check} if boundary_check else {}
            return store(pointer, value, mask, **options)
        pointers, inside = pointer.pointers(boundary_check)
        return store(pointers, value, inside, **options)

    return stored


def _block(handle: Any, dtype: Any) -> Any:
    return tl.tensor(handle, tl.block_type(dtype, list(handle.data.shape)))


def _numbers(values: Any) -> list[int]:
    """Whole numbers of what a kernel gives: a tuple of numbers, constants and scalars."""
    values = _plain(values)
    return [_number(value) for value in (values if isinstance(values, Sequence) else (values,))]


def _number(value: Any) -> int:
    value = _plain(value)
    return int(value.handle.data.item()) if isinstance(value, tl.tensor) else int(value)


def _plain(value: Any) -> Any:
    value = value.value if isinstance(value, tl.constexpr) else value
    return list(value) if isinstance(value, tl.tuple) else value
