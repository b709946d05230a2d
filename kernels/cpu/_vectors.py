"""A few vector instructions for functions that numba compiles.

LLVM decides by itself whether a loop becomes vector code, and does not see that the output and
the weights are different memory.  Kernels say what they want instead: a value of type
:class:`Vector` is some registers of float32, and the functions below load, multiply and store
them.  An address is an integer, as ``Tensor.data_ptr`` gives it, and needs no alignment.

A *sample* is a scalar whose type says how a number is stored.  numba has no 16 bit floats:
integers stand for them, see ``SAMPLES`` in ``operands``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from pytest_sparsity.kernels.cpu._formats import (
    FLOAT,
    WIDTH,
    WORD,
    combination,
    constant,
    fused,
    narrowed,
    raw,
    spread,
    widened,
)

#: Bytes of a row that are computed at once: a line of the cache.
LINE = 64


def instruction(function: Callable[..., Any]) -> Any:
    """A function of compiled code that generates its own code from its arguments' types."""
    return intrinsic(function)


class Vector(types.Type):
    """So many numbers of float32 in registers."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        kind = ir.VectorType(FLOAT, vector.lanes)
        super().__init__(manager, vector, kind)  # type: ignore[no-untyped-call]


@instruction
def wide(context: Any, sample: Any) -> Any:
    """A vector of zeros with as many lanes as numbers of the sample's kind fill a line."""
    return _zeros(Vector(LINE // WIDTH[sample]), sample)


@instruction
def single(context: Any, sample: Any) -> Any:
    """A vector with one lane, of zero."""
    return _zeros(Vector(1), sample)


def _zeros(vector: Vector, sample: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant_null(vector)

    return vector(sample), generate


@instruction
def lanes(context: Any, like: Any) -> Any:
    """How many lanes a vector has."""
    return _known(like.lanes, like)


@instruction
def width(context: Any, sample: Any) -> Any:
    """Bytes of one number."""
    return _known(WIDTH[sample], sample)


def _known(number: int, argument: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, number)

    return types.int64(argument), generate


@instruction
def load(context: Any, address: Any, sample: Any, like: Any) -> Any:
    """As many numbers as ``like`` has lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return widened(builder, raw(builder, arguments[0], sample, like.lanes), sample)

    return like(types.int64, sample, like), generate


@instruction
def store(context: Any, address: Any, vector: Any, sample: Any) -> Any:
    """Rounds to nearest, ties to even; NaN stays NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow = narrowed(builder, arguments[1], sample)
        pointer = builder.inttoptr(arguments[0], narrow.type.as_pointer())
        builder.store(narrow, pointer, align=WIDTH[sample])
        return context.get_dummy_value()

    return types.void(types.int64, vector, sample), generate


@instruction
def number(context: Any, address: Any, sample: Any) -> Any:
    """One number, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = widened(builder, raw(builder, arguments[0], sample, 1), sample)
        return builder.extract_element(vector, WORD(0))

    return types.float32(types.int64, sample), generate


@instruction
def integer(context: Any, address: Any) -> Any:
    """The int32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], WORD.as_pointer()), align=4)

    return types.int32(types.int64), generate


@instruction
def long_integer(context: Any, address: Any) -> Any:
    """The int64 at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=8)

    return types.int64(types.int64), generate


@instruction
def magnitude(context: Any, address: Any, sample: Any) -> Any:
    """The bits of a stored number without its sign.

    They are ordered as the absolute values are; infinity is above all numbers, NaN above it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _unsigned(builder, raw(builder, arguments[0], sample, 1), sample)

    return types.int64(types.int64, sample), generate


@instruction
def magnitude_of(context: Any, value: Any, sample: Any) -> Any:
    """What :func:`magnitude` of a float32 will be once it is stored."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = spread(builder, arguments[0], 1)
        return _unsigned(builder, narrowed(builder, vector, sample), sample)

    return types.int64(types.float32, sample), generate


def _unsigned(builder: Any, vector: Any, sample: Any) -> Any:
    kind = ir.IntType(8 * WIDTH[sample])
    bits = builder.bitcast(builder.extract_element(vector, WORD(0)), kind)
    return builder.zext(builder.and_(bits, kind((1 << kind.width - 1) - 1)), ir.IntType(64))


@instruction
def add(context: Any, left: Any, right: Any) -> Any:
    """The sum of two vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return left(left, right), generate


@instruction
def multiply(context: Any, left: Any, right: Any) -> Any:
    """The product of two vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return left(left, right), generate


@instruction
def multiply_add(context: Any, left: Any, right: Any, addend: Any) -> Any:
    """The sum of left * right and addend, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return fused(builder, *arguments)

    return addend(left, right, addend), generate


@instruction
def total(context: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, by halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _total(builder, arguments[0])

    return types.float32(vector), generate


@instruction
def totals(context: Any, vectors: Any) -> Any:
    """A vector of the totals of a tuple of vectors."""
    result = Vector(vectors.count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.get_constant_null(result)
        for g, vector in enumerate(_elements(builder, arguments[0])):
            found = builder.insert_element(found, _total(builder, vector), WORD(g))
        return found

    return result(vectors), generate


def _total(builder: Any, vector: Any) -> Any:
    count = vector.type.count
    while count > 1:
        count //= 2
        kind = ir.VectorType(WORD, count)
        masks = [ir.Constant(kind, list(range(first, first + count))) for first in (0, count)]
        vector = builder.fadd(*(builder.shuffle_vector(vector, vector, mask) for mask in masks))
    return builder.extract_element(vector, WORD(0))


@instruction
def add_products(context: Any, sums: Any, vector: Any, rows: Any, offset: Any, sample: Any) -> Any:
    """Per g the sum of sums[g] and of ``vector`` times the numbers at rows[g] + offset: a tuple."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        addresses = _moved(builder, arguments[2], rows.count, arguments[3])
        found = []
        for sum, address in zip(_elements(builder, arguments[0]), addresses, strict=True):
            weights = widened(builder, raw(builder, address, sample, vector.lanes), sample)
            found.append(fused(builder, arguments[1], weights, sum))
        return context.make_tuple(builder, signature.return_type, found)

    return sums(sums, vector, rows, types.int64, sample), generate


@instruction
def weighted_sum(context: Any, rows: Any, offset: Any, values: Any, sample: Any, like: Any) -> Any:
    """Sum over g of values[g] times the numbers at rows[g] + offset.

    Args:
        context: numba's.
        rows: tuple of addresses.
        offset: bytes.
        values: tuple of float32.
        sample: of the numbers.
        like: a vector with as many lanes as the result.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights = [
            widened(builder, raw(builder, address, sample, like.lanes), sample)
            for address in _moved(builder, arguments[0], rows.count, arguments[1])
        ]
        return combination(builder, weights, _elements(builder, arguments[2]))

    return like(rows, types.int64, values, sample, like), generate


@instruction
def weighted_nibbles(context: Any, rows: Any, offset: Any, low: Any, high: Any, like: Any) -> Any:
    """Like :func:`weighted_sum` for bytes that hold two numbers from -8 to 7, plus 8, each.

    Returns:
        Two vectors: of the low nibbles times ``low``, and of the high ones times ``high``.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.VectorType(WORD, like.lanes)
        found: tuple[list[Any], list[Any]] = ([], [])
        for address in _moved(builder, arguments[0], rows.count, arguments[1]):
            both = builder.zext(raw(builder, address, types.uint8, like.lanes), wide)
            for half, nibbles in zip(
                found,
                (builder.and_(both, constant(wide, 15)), builder.lshr(both, constant(wide, 4))),
                strict=True,
            ):
                signed = builder.sub(nibbles, constant(wide, 8))
                half.append(builder.sitofp(signed, ir.VectorType(FLOAT, like.lanes)))
        sums = [
            combination(builder, half, _elements(builder, values))
            for half, values in zip(found, arguments[2:4], strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, sums)

    return _pair(like)(rows, types.int64, low, high, like), generate


@instruction
def scaled(context: Any, factors: Any, rows: Any, offset: Any, sample: Any) -> Any:
    """Per g the product of factors[g] and the number at rows[g] + offset: tuple of float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        addresses = _moved(builder, arguments[1], rows.count, arguments[2])
        found = []
        for factor, address in zip(_elements(builder, arguments[0]), addresses, strict=True):
            scale = widened(builder, raw(builder, address, sample, 1), sample)
            found.append(builder.fmul(factor, builder.extract_element(scale, WORD(0))))
        return context.make_tuple(builder, signature.return_type, found)

    return factors(factors, rows, types.int64, sample), generate


@instruction
def looked_up(context: Any, table: Any, pattern: Any, indices: Any, like: Any) -> Any:
    """The entries of a table that bytes of two indices name.

    Args:
        context: numba's.
        table: address of as many float32 as ``pattern`` has elements, a power of two.
        pattern: a tuple; only its length matters.
        indices: address of as many bytes as ``like`` has lanes.
        like: a vector.

    Returns:
        Two vectors: what the low nibbles name, and the high ones.
    """
    size = pattern.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.VectorType(WORD, like.lanes)
        entries = [
            spread(builder, number, like.lanes) for number in _numbers(builder, arguments[0], size)
        ]
        both = builder.zext(raw(builder, arguments[2], types.uint8, like.lanes), words)
        found = [
            _entry(builder, entries, builder.lshr(both, constant(words, shift))) for shift in (0, 4)
        ]
        return context.make_tuple(builder, signature.return_type, found)

    return _pair(like)(types.int64, pattern, types.int64, like), generate


def _numbers(builder: Any, address: Any, count: int) -> list[Any]:
    vector = raw(builder, address, types.float32, count)
    return [builder.extract_element(vector, WORD(entry)) for entry in range(count)]


def _entry(builder: Any, entries: Sequence[Any], index: Any) -> Any:
    """By halves: the lowest bit of the index tells even entries from odd ones."""
    if len(entries) == 1:
        return entries[0]
    odd = builder.trunc(index, ir.VectorType(ir.IntType(1), index.type.count))
    left = [
        builder.select(odd, two, one) for one, two in zip(entries[::2], entries[1::2], strict=True)
    ]
    return _entry(builder, left, builder.lshr(index, constant(index.type, 1)))


@instruction
def prefetch(context: Any, rows: Any, offset: Any) -> Any:
    """Ask for the lines at rows[g] + offset; addresses that are nobody's do no harm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for address in _moved(builder, arguments[0], rows.count, arguments[1]):
            pointer = builder.inttoptr(address, byte)
            # For reading, to all levels of the cache, data.
            builder.call(function, [pointer, WORD(0), WORD(3), WORD(1)])
        return context.get_dummy_value()

    return types.void(rows, types.int64), generate


def _elements(builder: Any, values: Any) -> list[Any]:
    return [builder.extract_value(values, g) for g in range(len(values.type))]


def _pair(vector: Any) -> Any:
    return types.UniTuple(vector, 2)  # type: ignore[no-untyped-call]


def _moved(builder: Any, addresses: Any, count: int, offset: Any) -> list[Any]:
    return [builder.add(builder.extract_value(addresses, g), offset) for g in range(count)]
