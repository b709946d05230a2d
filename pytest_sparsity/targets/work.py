"""The bytes that ops must move: what a roofline is made of.

Shapes are written as elsewhere in this package: K input channels x N outputs of a layer, K
channels x N neurons of an MLP.  A level is the fraction of channels (of an MLP: neurons) that are
inactive in a row.  Rows have masks of their own, taken as independent: a weight is needed unless
all rows skip it, which is a fraction 1 - level ** rows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_sparsity.core.errors import SparsityError

#: Bytes of one number.
DTYPES = {"bfloat16": 2, "float16": 2, "float32": 4}
_INDEX = 4  # int32


@dataclass(frozen=True)
class Format:
    """How packed weights are stored; read only by the ops that pack them.

    Attributes:
        bits: of a quantised weight.
        group: outputs that share a scale, with 4 bits; with 8 every output has one.
        kept: of ``of`` consecutive channels, in semi-structured weights.
        of: see ``kept``.
    """

    bits: int = 4
    group: int = 64
    kept: int = 2
    of: int = 4


@dataclass(frozen=True)
class Work:
    """Bytes that one call of an op moves at one level.

    Attributes:
        weights: weights, scales and positions that are needed, each read once.
        dense_weights: weights that the best dense kernel reads.
        lists: lists of indices that say what is needed.
        activations: what comes in and what goes out; a dense kernel moves the same.
    """

    weights: float
    dense_weights: float
    lists: float
    activations: float

    @property
    def total(self) -> float:
        """All bytes of the sparse kernel."""
        return self.weights + self.lists + self.activations

    @property
    def dense_total(self) -> float:
        """All bytes of the dense kernel."""
        return self.dense_weights + self.activations


#: What one call moves: the model of a kind of op.
Traffic = Callable[["Call"], Work]


def union(level: float, rows: int) -> float:
    """Fraction that some of ``rows`` rows with independent masks need: 1 - level ** rows."""
    return 1 - level**rows


def work(
    traffic: Traffic,
    k: int,
    n: int,
    dtype: str,
    level: float,
    rows: int = 1,
    form: Format | None = None,
) -> Work:
    """What one call of an op moves.

    Args:
        traffic: what an op of its kind moves, as its record has it.
        k: input channels.
        n: outputs, or neurons of an MLP.
        dtype: of activations, and of weights and scales that are not packed.
        level: fraction inactive, from 0 to 1.
        rows: tokens that are computed at once, 1 to 8.
        form: of packed weights.

    Raises:
        SparsityError: an argument is none of these.
    """
    if dtype not in DTYPES:
        raise SparsityError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    if k < 1 or n < 1:
        raise SparsityError(f"shape {k}x{n}: both sizes must be at least 1")
    if not 0 <= level <= 1:
        raise SparsityError(f"level {level}: a level is a fraction from 0 to 1")
    if not 1 <= rows <= 8:
        raise SparsityError(f"rows {rows}: sparse kernels take 1 to 8 rows")
    return traffic(Call(k, n, DTYPES[dtype], level, rows, form or Format()))


@dataclass(frozen=True)
class Call:
    """One call of an op; ``size`` is the bytes of a number, all else as in :func:`work`."""

    k: int
    n: int
    size: int
    level: float
    rows: int
    form: Format

    @property
    def matrix(self) -> int:
        """Bytes of a dense weight [N, K]."""
        return self.k * self.n * self.size

    def moved(self, inputs: int, outputs: int) -> int:
        """Bytes of activations that come in and go out."""
        return self.rows * (inputs + outputs) * self.size


def linear(c: Call) -> Work:
    """A layer with a mask per row; n may be the outputs of several layers."""
    needed = union(c.level, c.rows) * c.matrix
    return Work(needed, c.matrix, 0, c.moved(c.k, c.n))


def listed(c: Call) -> Work:
    """One list for all rows."""
    needed = 1 - c.level
    return Work(needed * c.matrix, c.matrix, needed * c.k * _INDEX, c.moved(c.k, c.n))


def gated(c: Call) -> Work:
    """The gate is read whole: it decides which neurons are active."""
    needed = (1 + 2 * union(c.level, c.rows)) * c.matrix
    return Work(needed, 3 * c.matrix, 0, c.moved(c.k, c.k))


def predicted(c: Call) -> Work:
    """Gated, no neuron hot, one list for all rows; what the prediction costs is not counted."""
    needed = 1 - c.level
    return Work(needed * 3 * c.matrix, 3 * c.matrix, needed * c.n * _INDEX, c.moved(c.k, c.k))


def quantized(c: Call) -> Work:
    """Dense is the same format: a level adds to what quantisation saves already."""
    needed = union(c.level, c.rows)
    if c.form.bits == 8:
        payload, scales = c.k * c.n, c.n * c.size
        return Work(needed * payload + scales, payload + scales, 0, c.moved(c.k, c.n))
    if c.form.bits != 4:
        raise SparsityError(f"bits {c.form.bits}: weights are quantised to 8 or 4 bits")
    if c.form.group < 1:
        raise SparsityError(f"group {c.form.group}: a group has at least one output")
    groups = -(-c.n // c.form.group)
    packed = c.k * groups * (c.form.group / 2 + c.size)
    return Work(needed * packed, packed, 0, c.moved(c.k, c.n))


def semi_structured(c: Call) -> Work:
    """Dense are the weights before pruning.  A group is needed if one of its channels is."""
    if not 0 < c.form.kept < c.form.of:
        raise SparsityError(f"{c.form.kept} of {c.form.of} is no semi-structured format; use 2:4")
    slots = c.k / c.form.of * c.form.kept * c.n
    needed = union(c.level, c.rows * c.form.of)
    return Work(needed * slots * (c.size + 0.5), c.matrix, 0, c.moved(c.k, c.n))
