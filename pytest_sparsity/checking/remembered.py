"""Types of Triton's interpreter, and what follows from them, are made once and remembered.

Each function makes a faster one of the method that it is given; ``haste`` puts it in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from pytest_sparsity.checking import operators

_core: Any = tl.core
#: Types between which numpy casts as a GPU does.
_PLAIN = {"int1", "int32", "int64", "fp16", "bf16", "fp32", "fp64"}


def dtypes(original: Any) -> Callable[..., Any]:
    """The dtype of numpy for a Triton type."""
    known: dict[str, np.dtype[Any]] = {}
    pointers = np.dtype(np.uint64)

    def faster(tt_dtype: Any) -> np.dtype[Any]:
        if isinstance(tt_dtype, tl.block_type):
            tt_dtype = tt_dtype.element_ty
        if isinstance(tt_dtype, tl.pointer_type):
            return pointers
        found = known.get(tt_dtype.name)
        if found is None:
            found = known[tt_dtype.name] = original(tt_dtype)
        return found

    return faster


def blocks(original: Any) -> Callable[..., Any]:
    """Block types of an element type and a shape."""
    known: dict[Any, tuple[Any, int, str]] = {}
    constexpr = _core.constexpr

    def faster(self: Any, element_ty: Any, shape: Any) -> None:
        sizes = tuple([s.value if isinstance(s, constexpr) else s for s in shape])
        key = (element_ty.name, sizes)
        found = known.get(key)
        if found is None:
            original(self, element_ty, shape)
            known[key] = self.shape, self.numel, self.name
            return
        self.element_ty = element_ty
        self.shape, self.numel, self.name = found

    return faster


def shapes(original: Any) -> Callable[..., Any]:
    """Shapes of tensors, as the language has them."""
    known: dict[tuple[int, ...], tuple[Any, Any]] = {}
    block_type = tl.block_type

    def faster(self: Any, handle: Any, type: Any) -> None:
        sizes = tuple(type.shape.values) if isinstance(type, block_type) else ()
        found = known.get(sizes)
        if found is None:
            original(self, handle, type)
            known[sizes] = self.shape, self.numel
            return
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = found

    return faster


def promotions(original: Any) -> Callable[..., Any]:
    """The type in which two types are computed."""
    known: dict[Any, Any] = {}

    def faster(
        self: Any, a_ty: Any, a_is_scalar: bool, b_ty: Any, b_is_scalar: bool, div_or_mod: bool
    ) -> Any:
        key = (a_ty.name, a_is_scalar, b_ty.name, b_is_scalar, div_or_mod)
        found = known.get(key)
        if found is None:
            found = known[key] = original(self, a_ty, a_is_scalar, b_ty, b_is_scalar, div_or_mod)
        return found

    return faster


def broadcasts(original: Any) -> Callable[..., Any]:
    """The shape that two shapes have in common."""
    known: dict[Any, list[int] | None] = {}
    block_type = tl.block_type

    def common(one: Sequence[int], two: Sequence[int]) -> list[int] | None:
        pairs = list(zip(one, two, strict=False))
        fits = len(one) == len(two) and all(a == b or 1 in (a, b) for a, b in pairs)
        return [b if a == 1 else a for a, b in pairs] if fits else None

    def spread(self: Any, value: Any, shape: list[int]) -> Any:
        if value.type.shape.values == shape:
            return value
        handle = self.builder.create_broadcast(value.handle, shape)
        return self.tensor(handle, block_type(value.type.scalar, shape))

    def faster(self: Any, lhs: Any, rhs: Any) -> Any:
        blocks = isinstance(lhs.type, block_type), isinstance(rhs.type, block_type)
        if not any(blocks):
            return lhs, rhs
        if not all(blocks):
            return original(self, lhs, rhs)
        one, two = lhs.type.shape.values, rhs.type.shape.values
        if one == two:
            return lhs, rhs
        key = (*one, None, *two)
        if key not in known:
            known[key] = common(one, two)
        shape = known[key]
        if shape is None:  # of another rank, or wrong
            return original(self, lhs, rhs)
        return spread(self, lhs, shape), spread(self, rhs, shape)

    return faster


def casts(original: Any) -> Callable[..., Any]:
    """Casts that are nothing but one of the interpreter's."""
    known: dict[Any, Any] = {}

    def direct(self: Any, input: Any, scalar: Any, type: Any) -> Any:
        return self.tensor(self.builder.cast_impl(input.handle, scalar), type)

    def faster(self: Any, input: Any, dst_ty: Any, fp_downcast_rounding: Any = None) -> Any:
        scalar = dst_ty.scalar
        if input.dtype is scalar:
            return input
        key = (input.type.name, scalar.name)
        if (type_ := known.get(key)) is None or fp_downcast_rounding is not None:
            result = original(self, input, dst_ty, fp_downcast_rounding)
            if key not in known and {input.dtype.name, scalar.name} <= _PLAIN:
                same = operators.same(direct(self, input, scalar, result.type), result)
                known[key] = result.type if same else None
            return result
        return direct(self, input, scalar, type_)

    return faster


def expansions(original: Any) -> Callable[..., Any]:
    """A block with one more dimension."""
    known: dict[Any, tuple[Any, Any]] = {}

    def faster(self: Any, input: Any, axis: int) -> Any:
        key = (input.type.name, axis)
        found = known.get(key)
        if found is None:
            result = original(self, input, axis)
            if isinstance(input.type, tl.block_type):
                known[key] = result.type, (*[slice(None)] * axis, None)
            return result
        type_, places = found
        handle = TensorHandle(input.handle.data[places], input.handle.dtype.scalar)
        return self.tensor(handle, type_)

    return faster
