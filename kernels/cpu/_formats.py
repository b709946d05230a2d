"""How numbers are stored and computed with, in terms of LLVM's instructions.

Everything here works on vectors of any number of lanes while code is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

FLOAT = ir.FloatType()
WORD = ir.IntType(32)
#: Bytes of a stored number, by the type of its sample.
WIDTH = {types.float32: 4, types.uint16: 2, types.int16: 2, types.int8: 1, types.uint8: 1}


def raw(builder: Any, address: Any, sample: Any, count: int) -> Any:
    """So many stored numbers, as they are in memory."""
    kind: ir.Type = FLOAT if sample == types.float32 else ir.IntType(8 * WIDTH[sample])
    pointer = builder.inttoptr(address, ir.VectorType(kind, count).as_pointer())
    return builder.load(pointer, align=WIDTH[sample])


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    """A vector with the same number in all lanes, known now."""
    return ir.Constant(kind, [value] * kind.count)


def combination(builder: Any, vectors: Sequence[Any], factors: Sequence[Any]) -> Any:
    """The sum of factors[g] times vectors[g]: even and odd ones apart, for a shorter chain."""
    sums: list[Any] = []
    for vector, factor in zip(vectors, factors, strict=True):
        factor = spread(builder, factor, vector.type.count)
        if len(sums) < 2:
            sums.append(builder.fmul(vector, factor))
        else:
            sums = [sums[1], fused(builder, vector, factor, sums[0])]
    return sums[0] if len(sums) == 1 else builder.fadd(*sums)


def spread(builder: Any, scalar: Any, count: int) -> Any:
    """A vector with the same number in all lanes."""
    empty = ir.Constant(ir.VectorType(FLOAT, count), ir.Undefined)
    first = builder.insert_element(empty, scalar, WORD(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(WORD, count), None))


def fused(builder: Any, left: Any, right: Any, addend: Any) -> Any:
    """The sum of left * right and addend, rounded once where the processor can."""
    kind = left.type
    function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.v{kind.count}f32"
    )
    return builder.call(function, [left, right, addend])


def widened(builder: Any, raw: Any, sample: Any) -> Any:
    """A vector as it is in memory, in float32: exactly."""
    if sample == types.float32:
        return raw
    floats = ir.VectorType(FLOAT, raw.type.count)
    if sample == types.int8:
        return builder.sitofp(raw, floats)
    words = ir.VectorType(WORD, raw.type.count)
    bits = builder.zext(raw, words)
    if sample == types.uint16:  # bfloat16: the upper half of a float32
        return builder.bitcast(builder.shl(bits, constant(words, 16)), floats)
    # float16: the same fields, with a smaller exponent.  The product is right for subnormals too.
    sign = builder.shl(builder.and_(bits, constant(words, 0x8000)), constant(words, 16))
    size = builder.and_(bits, constant(words, 0x7FFF))
    moved = builder.shl(size, constant(words, 13))
    scaled = builder.fmul(builder.bitcast(moved, floats), constant(floats, 2.0**112))
    special = builder.icmp_unsigned(">=", size, constant(words, 0x7C00))
    known = builder.select(
        special,
        builder.or_(moved, constant(words, 0x7F800000)),
        builder.bitcast(scaled, words),
    )
    return builder.bitcast(builder.or_(known, sign), floats)


def narrowed(builder: Any, value: Any, sample: Any) -> Any:
    """A vector of float32 as it is stored: rounded to nearest, ties to even."""
    if sample == types.float32:
        return value
    words = ir.VectorType(WORD, value.type.count)
    bits = builder.bitcast(value, words)
    narrow = {types.uint16: _bfloat16, types.int16: _float16}[sample]
    return builder.trunc(narrow(builder, bits), ir.VectorType(ir.IntType(16), value.type.count))


def _bfloat16(builder: Any, bits: Any) -> Any:
    words = bits.type
    cut = builder.lshr(bits, constant(words, 16))
    rounded = builder.lshr(_half_up(builder, bits, 16), constant(words, 16))
    size = builder.and_(bits, constant(words, 0x7FFFFFFF))
    is_nan = builder.icmp_unsigned(">", size, constant(words, 0x7F800000))
    return builder.select(is_nan, builder.or_(cut, constant(words, 0x40)), rounded)


def _float16(builder: Any, bits: Any) -> Any:
    words = bits.type
    floats = ir.VectorType(FLOAT, words.count)
    size = builder.and_(bits, constant(words, 0x7FFFFFFF))
    below = builder.sub(_half_up(builder, size, 13), constant(words, 112 << 23))
    result = builder.lshr(below, constant(words, 13))
    # Beside 1/2 the numbers of float32 are as far apart as the subnormals of float16 are.
    shifted = builder.fadd(builder.bitcast(size, floats), constant(floats, 0.5))
    subnormal = builder.sub(builder.bitcast(shifted, words), constant(words, 126 << 23))
    for relation, limit, instead in (
        ("<", 113 << 23, subnormal),
        (">=", 0x477FF000, constant(words, 0x7C00)),  # 65520 and more: infinity
        (">", 0x7F800000, constant(words, 0x7E00)),
    ):
        result = builder.select(
            builder.icmp_unsigned(relation, size, constant(words, limit)), instead, result
        )
    sign = builder.and_(builder.lshr(bits, constant(words, 16)), constant(words, 0x8000))
    return builder.or_(result, sign)


def _half_up(builder: Any, bits: Any, dropped: int) -> Any:
    """Bits plus what makes cutting off the last ones a rounding to nearest, ties to even."""
    words = bits.type
    odd = builder.and_(builder.lshr(bits, constant(words, dropped)), constant(words, 1))
    return builder.add(bits, builder.add(odd, constant(words, (1 << dropped - 1) - 1)))
