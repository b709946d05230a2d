"""Cases of ops of decoding, from which their records are made: to draw from, and to go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from pytest_sparsity.checking.case import (
    LAYOUTS,
    PATTERNS,
    SATURATED,
    VALUES,
    Case,
    Value,
)
from pytest_sparsity.checking.record import Cases, OpRecord, Space
from pytest_sparsity.kernels.registry import DTYPES, Kernel
from pytest_sparsity.reference.operands import MAX_ROWS

Options = Sequence[Mapping[str, Value]]
#: An ordinary case that is only large, as an op can have it: the case, neurons, its number.
Large = Callable[[Case, int, int], Case]

#: Drawn more often than their neighbours: sizes of models, and tile sizes with what is beside.
NOTABLE = (1, 2, 3, 7, 31, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 384, 576, 577, 640)
#: Drawn once in a while: what they cost under an interpreter is seconds.
_LARGE_SIZES = (1536, 2048)
#: Ascending, so that a place that shrinks is a size that shrinks.
SIZES = tuple(sorted((*range(1, 161), *NOTABLE * 4, *_LARGE_SIZES)))
#: The largest that is drawn for kernels that are interpreted; larger ones are among the edge cases.
INTERPRETED = NOTABLE[-1]
LEVELS = (0.5, 0.0, 0.25, 0.75, 0.9, 0.99, 1.0)

#: Patterns of ops that are told their channels or neurons.
LISTED = ("random", "all", "none", "one", "first", "last", "alternating", "blocks", "large")
#: Layouts of ops whose weights are packed.
PACKED = ("best", "pitch", "offset", "strided")
#: Neurons of the edge cases of MLPs.
HIDDEN = (65, 1, 192)

#: K and N: one, primes, beside tiles on either side, and sizes of small models.
_SHAPES = ((1, 1), (13, 7), (65, 63), (127, 129), (200, 31), (257, 192), (576, 192), (192, 577))
#: The middle shape, for what does not go with every shape.
_SHAPE = (129, 65)
#: K, N and neurons: more than a tile holds, and more than 16 bits can count.
_LARGE = ((2050, 1100, 300), (65539, 2, 2), (2, 65539, 2), (2, 2, 65539))
#: One more than the tiles that kernels are written with, in one dimension each.
_BEYOND_TILES = tuple(
    shape for size in (513, 1025, 4097) for shape in ((size, 3, 3), (3, size, 3), (3, 3, size))
)
#: How many rows, one after the other: often one, and all that kernels take.
_ROWS = (1, 2, 3, 1, 8, 5, 1, 4, 7, 6, 1)

#: Where it is counted what a kernel loads.
_COUNTED_LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_COUNTED_PATTERNS = ("all", "none", "one", "first", "last", "alternating", "blocks", "nan")
_COUNTED_SHAPE, _ODD = (192, 256), (129, 65)
#: Channels, or neurons, and outputs: enough for several programs to share a result.
_SHARED = (4096, 1024)

#: For which kernels are compiled: layers of large models, in the dtypes these have.
_HALVES = ("bfloat16", "float16")
_COMPILED_SHAPES = ((4096, 4096), (4096, 14336))


def sizes(largest: int = SIZES[-1], often: int | None = None) -> tuple[int, ...]:
    """Numbers of channels, outputs or neurons, small and notable ones above all.

    Args:
        largest: of them.
        often: a size that is there as often as all others together.
    """
    among = [size for size in SIZES if size <= largest]
    if often is not None:
        among += [often] * len(among)
    return tuple(sorted(among))


def decoding_space(
    patterns: Sequence[str] = PATTERNS,
    layouts: Sequence[str] = LAYOUTS,
    bias: bool = True,
    **own: Sequence[Any],
) -> Space:
    """The space of an op of decoding: rows, k, n and what goes with them, the simplest first.

    Args:
        patterns: that mean something for it.
        layouts: that its operands can have.
        bias: whether there may be one.
        own: values of its own parameters, or others of these.
    """
    # What is to shrink first stands in front.
    common: dict[str, Sequence[Any]] = {
        "rows": range(1, MAX_ROWS + 1),
        "k": SIZES,
        "n": SIZES,
        "dtype": DTYPES,
        "pattern": _often_first(patterns),
        "values": VALUES,
        "layout": _often_first(layouts),
        "bias": (False, True) if bias else (False,),
        "level": LEVELS,
        "seed": range(2**16),
    }
    return common | own


def _often_first(values: Sequence[str]) -> Sequence[str]:
    """The first in a quarter of the cases, else any."""
    return (values[0],) * (len(values) // 3) + tuple(values)


# Edges


def edges(options: Options = (), large: Large = lambda case, hidden, index: case) -> Cases:
    """The list of cases in which kernels have been wrong: small ones first.

    Rows of the table of published defects that it holds: a missing mask that shows when the last
    channel is active, sizes beside a multiple of any tile, a border of q, k and v within a tile,
    several rows, activations other than the first, weights that are slices, sums of -0 with a
    bias.

    Args:
        options: values of the op's own parameters that kernels have got wrong.
        large: makes the op's of a case that is only large.
    """

    def cases(own: OpRecord, kernel: Kernel) -> list[Case]:
        found = [
            Case(1, k, n, pattern=pattern) for pattern, (k, n) in product(own.patterns, _SHAPES)
        ]
        found += [Case(1, *_SHAPE, layout=layout) for layout in own.layouts]
        found += [Case(1, *_SHAPE, level=level) for level in (0.0, 1.0)]
        # Nothing but -0 and 0, and a bias, beyond the last multiple of 128 channels: vLLM 13198.
        if "zeros" in own.patterns:
            found.append(Case(1, 200, 31, pattern="zeros", level=1.0))
        # The last channel alone: a tail that is left out, or a lane that reads another channel.
        found += [Case(1, k, n, level=1.0, pattern="last") for k, n in _SHAPES[1::2]]
        found += [Case(1, *_SHAPE)] * len(options)
        varied = [_varied(own, kernel, case, index, options) for index, case in enumerate(found)]
        many = [(shape, pattern) for shape in _LARGE for pattern in ("random", "last")]
        many += [(shape, "all") for shape in _BEYOND_TILES]
        for index, ((k, n, hidden), pattern) in enumerate(many):
            # The threshold of some ops goes by all rows: one that is last is so in a single row.
            case = Case(
                rows=1 if pattern == "last" else min(index // 2 % 2 + 1, kernel.max_rows),
                k=k,
                n=n,
                dtype=kernel.dtypes[index % len(kernel.dtypes)],
                # Nothing but what is at the end of a dimension, where 16 bits end before.
                level=1.0 if pattern == "last" else 0.5,
                pattern=pattern,
                bias=own.has_bias,
            )
            varied.append(own.fitted(large(case, hidden, index)))
        return sorted(dict.fromkeys(varied), key=lambda case: (case.k * case.n, case.rows))

    return cases


def _varied(own: OpRecord, kernel: Kernel, case: Case, index: int, options: Options) -> Case:
    """``case`` with one of everything else in turn: all combinations would be thousands."""
    if case.layout == "best" and index % 2:
        case = replace(case, layout=own.layouts[index // 2 % len(own.layouts)])
    if options:
        # Once around, the next ones go with another half of the layouts.
        turn = index // len(options)
        case = case.with_options(**options[(index + turn) % len(options)])
    return own.fitted(
        replace(
            case,
            rows=min(_ROWS[index % len(_ROWS)], kernel.max_rows, MAX_ROWS),
            dtype=kernel.dtypes[index % len(kernel.dtypes)],
            values=VALUES[index // 2 % len(VALUES)],
            bias=own.has_bias and index % 5 != 0,
            seed=index,
        )
    )


# What a kernel loads


def counted(
    options: Options = ({},), large: Callable[[Case], Case] = lambda case: case, odd: int = _ODD[0]
) -> Cases:
    """The cases in which it is counted what a kernel loads, levels first.

    Args:
        options: values of the op's own parameters.
        large: makes the op's of a case in which several programs share a result.
        odd: channels where they are to be beside a tile.
    """

    def cases(own: OpRecord, kernel: Kernel) -> Iterator[Case]:
        fitted = own.fitted
        for index, level in enumerate(_COUNTED_LEVELS):
            dtype = kernel.dtypes[index % len(kernel.dtypes)]
            case = Case(1, *_COUNTED_SHAPE, dtype=dtype, level=level)
            yield fitted(case.with_options(**options[index % len(options)]))
        for index, pattern in enumerate(_COUNTED_PATTERNS):
            dtype = kernel.dtypes[index % len(kernel.dtypes)]
            layout = "pitch" if index % 2 else "best"
            case = Case(1, odd, _ODD[1], dtype=dtype, pattern=pattern, layout=layout, seed=index)
            yield fitted(case.with_options(**options[index % len(options)]))
        # Lanes beyond the one active channel must read nothing, and not the channel 0.
        case = Case(1, odd, _ODD[1], dtype=kernel.dtypes[0], level=1.0, pattern="last")
        yield fitted(case.with_options(**options[0]))
        case = Case(1, *_SHARED, dtype=kernel.dtypes[0], level=0.9)
        yield fitted(large(case.with_options(**options[0])))
        if kernel.max_rows > 1:
            rows = min(3, kernel.max_rows)
            case = Case(rows, *_COUNTED_SHAPE, dtype=kernel.dtypes[0], level=0.75)
            yield fitted(case.with_options(**options[0]))

    return cases


# What a compiler makes of it


def compiled(options: Options = ({},)) -> Cases:
    """Shapes of decoding with large models, in the half-precision dtypes the kernel takes."""

    def cases(own: OpRecord, kernel: Kernel) -> Iterator[Case]:
        dtypes = [dtype for dtype in _HALVES if dtype in kernel.dtypes] or list(kernel.dtypes)
        for chosen in options:
            for index, (k, n) in enumerate(_COMPILED_SHAPES):
                dtype = dtypes[index % len(dtypes)]
                yield Case(1, k, n, dtype=dtype).with_options(**chosen)
            if kernel.max_rows > 1:
                rows = min(MAX_ROWS, kernel.max_rows)
                yield Case(rows, *_COMPILED_SHAPES[-1], dtype=dtypes[0]).with_options(**chosen)

    return cases


def paged_outputs(page: int) -> Space:
    """Weights of a channel, input-major, that fill pages of so many elements."""
    return {"n": sizes(640, often=page)}


# MLPs: n of a large or timed case are neurons, and there are as many outputs as channels


def mlp_fitted(case: Case) -> Case:
    """Arguments that are large are for activations with exponentials, and no square of them."""
    if case.pattern == SATURATED and case.option("activation", "silu") not in ("silu", "gelu_tanh"):
        return replace(case, pattern="random")
    return case


def mlp_large(case: Case, hidden: int, index: int) -> Case:
    """A large edge case with so many neurons."""
    return case.with_options(hidden=hidden)


def mlp_counted(case: Case) -> Case:
    """Few channels, and many neurons."""
    return replace(case, k=64).with_options(hidden=case.k)


def mlp_paged(page: int) -> Space:
    """Rows of gate and up, and columns of down, that fill pages; few neurons."""
    often = sizes(640, often=page)
    return {"k": often, "n": often, "hidden": range(1, 65)}


def mlp_timed(case: Case) -> Case:
    """The case of the speed gate: n neurons, and as many outputs as x has channels."""
    return replace(case, n=case.k).with_options(hidden=case.n)
