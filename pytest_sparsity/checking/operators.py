"""Sums, products and comparisons of the interpreter, by numpy at once where that is all they are.

Triton's language works out types, shapes and casts of every operation anew, which takes ten times
as long as the operation.  What it makes of two types of operands is remembered here.  The first
time both ways are gone: where they do not give the same bits, the language's is the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

_core: Any = tl.core
#: Gives the result; None if these operands are not for it.
Quick = Callable[[Any, Any], Any]

#: Methods of Triton's semantics: what numpy has for them, and between which types.
_WHOLE, _NUMBERS = ("int32", "int64"), ("int32", "int64", "fp16", "fp32", "fp64")
FUNCTIONS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "add": (np.add, _NUMBERS),
    "sub": (np.subtract, _NUMBERS),
    "mul": (np.multiply, _NUMBERS),
    "less_than": (np.less, _NUMBERS),
    "less_equal": (np.less_equal, _NUMBERS),
    "greater_than": (np.greater, _NUMBERS),
    "greater_equal": (np.greater_equal, _NUMBERS),
    "equal": (np.equal, _NUMBERS),
    "not_equal": (np.not_equal, _NUMBERS),
    "and_": (np.bitwise_and, ("int1", *_WHOLE)),
    "or_": (np.bitwise_or, ("int1", *_WHOLE)),
}
#: Python's operators of a tensor, with the methods that they call, and with what else.
_ORDERED = {"lt": "less_than", "le": "less_equal", "gt": "greater_than", "ge": "greater_equal"}
OPERATORS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "add": ("add", (True,)),
    "sub": ("sub", (True,)),
    "mul": ("mul", (True,)),
    "and": ("and_", ()),
    "or": ("or_", ()),
    "eq": ("equal", ()),
    "ne": ("not_equal", ()),
    **{name: (method, ()) for name, method in _ORDERED.items()},
}


def operator(name: str, semantic: Any) -> Callable[..., Any] | None:
    """The tensor's method of this name, as ``__radd__``; None if it is of another kind.

    Args:
        name: of the method.
        semantic: of the interpreter.
    """
    bare = name.strip("_")
    method, rest = OPERATORS.get(bare, OPERATORS.get(bare[1:], ("", ())))
    if not method:
        return None
    reflected = bare not in OPERATORS

    def applied(self: Any, other: Any, _semantic: Any = None) -> Any:
        other = _core._unwrap_if_constexpr(other)
        pair = (other, self) if reflected else (self, other)
        return getattr(semantic, method)(*pair, *rest)

    return applied


def remembered(name: str) -> Callable[[Any], Callable[..., Any]]:
    """What makes a faster one of the method ``name`` of Triton's semantics."""
    function, among = FUNCTIONS[name]
    tensor = _core.tensor

    def faster_than(original: Any) -> Callable[..., Any]:
        known: dict[Any, Quick | None] = {}

        def faster(self: Any, input: Any, other: Any, *rest: Any, **named: Any) -> Any:
            key = (
                input.type.name if type(input) is tensor else type(input),
                other.type.name if type(other) is tensor else type(other),
            )
            quick = known.get(key)
            if quick is not None:
                result = quick(input, other)
                if result is not None:
                    return result
            result = original(self, input, other, *rest, **named)
            if key not in known:
                known[key] = _checked(_quick(name, function, among, result, input, other), result)
            return result

        def _checked(made: tuple[Quick, Any, Any] | None, result: Any) -> Quick | None:
            if made is None:
                return None
            quick, input, other = made
            return quick if same(quick(input, other), result) else None

        return faster

    return faster_than


def _quick(
    name: str, function: Any, among: tuple[str, ...], result: Any, input: Any, other: Any
) -> tuple[Quick, Any, Any] | None:
    """A way to a result like this from operands of these types, with the operands."""
    tensor = _core.tensor
    types = [each.dtype if type(each) is tensor else type(each) for each in (input, other)]
    names = [getattr(each, "name", each) for each in types]
    if type(result) is not tensor:
        return None
    if name == "add" and type(input) is tensor and types[0].is_ptr():
        return (_moved(result, types[0]), input, other) if names[1] in (*_WHOLE, int) else None
    numbers = [each for each in names if each in among]
    plain = [each for each in names if each in (int, float)]
    if len(numbers) + len(plain) < 2 or not numbers:
        return None
    alike = len(set(numbers)) == 1 or set(numbers) == set(_WHOLE)
    if not alike or (plain == [float] and numbers[0] in _WHOLE) or (plain and "int1" in numbers):
        return None
    return _computed(function, result, numbers[0]), input, other


def _computed(function: Any, result: Any, number: str) -> Quick:
    """By a function of numpy; operands of Python become the type that the other one has."""
    tensor, type_, kept = _core.tensor, result.type, result.handle.dtype
    shape = tuple(type_.shape.values) if isinstance(type_, tl.block_type) else None
    dtype = result.handle.data.dtype
    constant = np.dtype({"fp16": "f2", "fp32": "f4", "fp64": "f8", "int32": "i4"}.get(number, "i8"))
    whole = constant.kind == "i"
    low, high = (np.iinfo(constant).min, np.iinfo(constant).max) if whole else (0, 0)

    def quick(input: Any, other: Any) -> Any:
        pair = []
        for operand in (input, other):
            if type(operand) is tensor:
                pair.append(operand.handle.data)
            elif whole and not low <= operand <= high:
                return None  # the language says so
            else:
                pair.append(np.array(operand, constant))
        data = function(*pair)
        if data.dtype is not dtype:
            return None
        if shape is not None and data.shape != shape:
            data = np.broadcast_to(data, shape)
        return tensor(TensorHandle(data, kept), type_)

    return quick


def _moved(result: Any, pointer: Any) -> Quick:
    """A pointer and an offset."""
    tensor, type_ = _core.tensor, result.type
    shape = tuple(type_.shape.values) if isinstance(type_, tl.block_type) else None
    size = np.uint64(max(1, pointer.element_ty.primitive_bitwidth // 8))
    most = 2**63

    def quick(input: Any, other: Any) -> Any:
        if type(other) is tensor:
            offset = other.handle.data
        elif -most <= other < most:
            offset = np.array([other], np.int64)
        else:
            return None
        data = input.handle.data + size * offset.astype(np.uint64)
        if shape is not None and data.shape != shape:
            data = np.broadcast_to(data, shape)
        return tensor(TensorHandle(data, input.handle.dtype), type_)

    return quick


def same(found: Any, result: Any) -> bool:
    """Whether two tensors of the interpreter hold the same bits, of the same types."""
    if found is None:
        return False
    one, two = found.handle, result.handle
    return bool(
        one.data.dtype == two.data.dtype
        and one.data.shape == two.data.shape
        and one.data.tobytes() == two.data.tobytes()
        and one.dtype == two.dtype
    )
