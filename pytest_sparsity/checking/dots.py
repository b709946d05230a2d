"""``tl.dot`` of float32 operands as tensor cores of a GPU compute it: most of their bits ignored.

Triton's interpreter multiplies them as they are, whatever ``input_precision`` says.  On a GPU
``tf32``, the default, hands them to tensor cores that read 10 of the 23 bits behind the point;
``tf32x3``, ``bf16x3`` and ``bf16x6`` add up products of parts of them; only ``ieee`` is a float32
product.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import triton.language as tl
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from pytest_sparsity.checking import choices
from pytest_sparsity.checking.bfloat16 import rounded, widened
from pytest_sparsity.checking.triton_internals import method

Array = npt.NDArray[Any]

#: The bits of a float32 that TF32 has, and half of the last one of them.
_KEPT, _HALF = np.uint32(0xFFFFE000), np.uint32(0x1000)


def repair(place: Callable[[], str]) -> None:
    """Replace the interpreter's product of tiles, and take over what is default on NVIDIA's GPUs.

    Args:
        place: tells where in a kernel's source the interpreter is.
    """
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(
        builder.options,
        default_dot_input_precision=CUDAOptions.default_dot_input_precision,
        allowed_dot_input_precisions=CUDAOptions.allowed_dot_input_precisions,
    )
    dot = method(InterpreterBuilder, "create_dot", "self", "a", "b", "d", "input_precision")

    @functools.wraps(dot)
    def replacement(self: Any, a: Any, b: Any, d: Any, precision: Any, *rest: Any) -> Any:
        of_floats = a.dtype.scalar == tl.float32 and b.dtype.scalar == tl.float32
        if not of_floats or precision.name == "IEEE" or not choices.rounds(place):
            return dot(self, a, b, d, precision, *rest)
        return TensorHandle(_PRODUCTS[precision.name](a.data, b.data) + d.data, tl.float32)

    InterpreterBuilder.create_dot = replacement


def truncated(values: Array) -> Array:
    """What a tensor core reads of float32 ``values`` in TF32 (PTX ISA, 9.7.14: mma)."""
    kept: Array = (values.view(np.uint32) & _KEPT).view(np.float32)
    return np.where(np.isnan(values), values, kept)


def nearest(values: Array) -> Array:
    """The TF32 numbers nearest to float32 ``values``, ties away from 0 (PTX ISA: cvt.rna.tf32)."""
    kept: Array = ((values.view(np.uint32) + _HALF) & _KEPT).view(np.float32)
    return np.where(np.isfinite(values), kept, values)


def _tf32(a: Array, b: Array) -> Array:
    product: Array = np.matmul(truncated(a), truncated(b))
    return product


def _tf32x3(a: Array, b: Array) -> Array:
    high_a, high_b = nearest(a), nearest(b)
    low_a, low_b = truncated(a - high_a), truncated(b - high_b)
    corrections = _finite(np.matmul(low_a, high_b) + np.matmul(high_a, low_b))
    product: Array = corrections + np.matmul(high_a, high_b)
    return product


def _bf16(a: Array, b: Array, parts: int) -> Array:
    """The sum of products of parts of a and b, but those of the smallest ones, the largest last."""
    of_a, of_b = _split(a, parts), _split(b, parts)
    total = np.zeros((), np.float32)
    for order in reversed(range(1, parts)):
        for index in range(order + 1):
            total = total + np.matmul(of_a[index], of_b[order - index])
    product: Array = _finite(total) + np.matmul(of_a[0], of_b[0])
    return product


def _split(values: Array, parts: int) -> list[Array]:
    """bfloat16 numbers that add up to nearly ``values``, as float32, the largest first."""
    found: list[Array] = []
    for _ in range(parts):
        found.append(widened(rounded(values)))
        values = values - found[-1]
    return found


def _finite(corrections: Array) -> Array:
    """Corrections of what is infinite are NaN, and none are made; as Triton's compiler has it."""
    return np.where(np.isnan(corrections), np.float32(0.0), corrections)


_PRODUCTS: dict[str, Callable[[Array, Array], Array]] = {
    "TF32": _tf32,
    "TF32x3": _tf32x3,
    "BF16x3": lambda a, b: _bf16(a, b, 2),
    "BF16x6": lambda a, b: _bf16(a, b, 3),
}
