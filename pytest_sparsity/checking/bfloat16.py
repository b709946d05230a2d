"""Repairs bfloat16 in Triton's interpreter, which computes with its bits as if with integers.

In Triton 3.9 the interpreter keeps bfloat16 as uint16 and forgets to convert for arithmetic,
comparisons, casts from integers and ``tl.dot``; its cast from float32 truncates.  Here operands
are widened to float32, exactly, and results rounded to nearest even, as torch and the hardware
do: bit-equal to both, since a float32 result of bfloat16 operands rounds innocuously.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, ReduceOps, ScanOps, TensorHandle

from pytest_sparsity.checking.triton_internals import method

Array = npt.NDArray[Any]
_NAME = tl.bfloat16.name


def widened(bits: Array) -> Array:
    """The float32 numbers of bfloat16 ``bits`` (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values: Array) -> Array:
    """The bits (uint16) of the bfloat16 numbers nearest to float32 ``values``, ties to even."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    nearest = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> 16
    result: Array = np.where(np.isnan(values), np.uint16(0x7FC0), nearest.astype(np.uint16))
    return result


def repair() -> None:
    """Replace the methods of the interpreter that get bfloat16 wrong."""
    for name, parameters in (
        ("binary_op", ("lhs", "rhs", "op")),
        ("unary_op", ("arg", "op")),
        ("ternary_op", ("lhs", "rhs", "other", "op")),
        ("create_fma", ("x", "y", "z")),
        ("create_erf", ("arg",)),
        ("create_rsqrt", ("arg",)),
    ):
        original = method(InterpreterBuilder, name, "self", *parameters)
        setattr(InterpreterBuilder, name, _elementwise(original))
    cast = method(InterpreterBuilder, "cast_impl", "self", "src", "dst_type")
    InterpreterBuilder.cast_impl = _cast(cast)
    dot = method(InterpreterBuilder, "create_dot", "self", "a", "b", "d", "input_precision")
    InterpreterBuilder.create_dot = lambda self, a, b, d, input_precision, *rest: dot(
        self, _wide(a), _wide(b), d, input_precision, *rest
    )
    add = method(InterpreterBuilder, "create_atomic_rmw", "self", "rmwOp", "ptr", "val", "mask")
    InterpreterBuilder.create_atomic_rmw = _atomic(add)
    for operation in (ReduceOps, ScanOps):
        operation.apply_impl = _reduction(method(operation, "apply_impl", "self", "input"))


def _is_bfloat16(handle: Any) -> bool:
    return isinstance(handle, TensorHandle) and handle.dtype.scalar.name == _NAME


def _wide(handle: Any) -> Any:
    return TensorHandle(widened(handle.data), tl.float32) if _is_bfloat16(handle) else handle


def _elementwise(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(self: Any, *operands: Any) -> Any:
        narrow = any(map(_is_bfloat16, operands))
        result = original(self, *(map(_wide, operands) if narrow else operands))
        if result.data.dtype == np.bool_:
            # The original says that a comparison is of its operands' type: a scalar one would
            # become a block of that.
            return TensorHandle(result.data, tl.int1)
        if not narrow:
            return result
        return TensorHandle(rounded(result.data), tl.bfloat16)

    return replacement


def _cast(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(self: Any, src: Any, dst_type: Any) -> Any:
        src = _wide(src)
        if dst_type.scalar == tl.bfloat16:
            return TensorHandle(rounded(src.data.astype(np.float32)), tl.bfloat16)
        # Not the original's float32 to float32 by way of bits, nor comparisons' wrong types.
        if dst_type.scalar == tl.float32:
            return TensorHandle(src.data.astype(np.float32), tl.float32)
        return original(self, src, dst_type)

    return replacement


def _atomic(original: Callable[..., Any]) -> Callable[..., Any]:
    """Atomic additions of bfloat16, one lane after another, which the original refuses."""

    @functools.wraps(original)
    def replacement(self: Any, operation: Any, ptr: Any, val: Any, mask: Any, *rest: Any) -> Any:
        if not _is_bfloat16(val):
            return original(self, operation, ptr, val, mask, *rest)
        before = np.zeros(ptr.data.shape, np.uint16)
        for lane in zip(*np.nonzero(mask.data), strict=True):
            at, on = ptr.data[lane].reshape(1), np.ones(1, dtype=bool)
            before[lane] = interpreter._interpreter.load(
                at, on, np.zeros(1, np.uint16), np.dtype(np.uint16)
            )[0]
            after = rounded(widened(before[lane].reshape(1)) + widened(val.data[lane].reshape(1)))
            interpreter._interpreter.store(at, after, on)
        return TensorHandle(before, tl.bfloat16)

    return replacement


def _reduction(original: Callable[..., Any]) -> Callable[..., Any]:
    """Reductions and scans; a sum in half precision is rounded at every step, as on the device.

    numpy adds float16 in float32 in places, which would hide a kernel that accumulates in half
    precision.
    """

    @functools.wraps(original)
    def replacement(self: Any, operands: Any) -> Any:
        first = operands[0]
        is_sum = isinstance(self, ReduceOps) and self.combine_fn is tl.standard._sum_combine
        if is_sum and first.dtype.scalar == tl.float16:
            return [_retyped(first, _tree_sum(self, first.handle.data, _to_half), tl.float16)]
        if not any(operand.dtype.scalar == tl.bfloat16 for operand in operands):
            return original(self, operands)
        if is_sum:
            total = _tree_sum(self, widened(first.handle.data), _to_bfloat16)
            return [_retyped(first, rounded(total), tl.bfloat16)]
        wide = tuple(
            self.to_tensor(widened(operand.handle.data), tl.float32)
            if operand.dtype.scalar == tl.bfloat16
            else operand
            for operand in operands
        )
        results = original(self, wide)
        if not isinstance(results, (list, tuple)):
            results = (results,)
        return [
            _retyped(result, rounded(result.handle.data), tl.bfloat16)
            if index < len(operands)
            and operands[index].dtype.scalar == tl.bfloat16
            and result.dtype.scalar == tl.float32
            else result
            for index, result in enumerate(results)
        ]

    return replacement


def _tree_sum(operation: Any, values: Array, to_half: Callable[[Array], Array]) -> Array:
    """Sum over the operation's axis, halves onto halves: lengths are powers of two."""
    axis = operation.axis
    moved = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, -1)
    while moved.shape[-1] > 1:
        half = moved.shape[-1] // 2
        moved = to_half(moved[..., :half].astype(np.float32) + moved[..., half:])
    if operation.keep_dims:
        return moved.reshape((1,) * values.ndim) if axis is None else np.moveaxis(moved, -1, axis)
    return moved.reshape(()) if axis is None else moved[..., 0]


def _to_half(values: Array) -> Array:
    return values.astype(np.float16)


def _to_bfloat16(values: Array) -> Array:
    return widened(rounded(values))


def _retyped(like: Any, data: Array, dtype: Any) -> Any:
    """A Triton tensor of ``data``; a scalar if data has no dimension or ``like`` is one."""
    scalar = data.ndim == 0 or (not like.type.is_block() and data.size == 1)
    data = np.atleast_1d(data)
    return tl.core.tensor(
        TensorHandle(data, dtype), dtype if scalar else tl.block_type(dtype, list(data.shape))
    )
