"""How the work of each Triton kernel is divided: a table and pure functions of shape and device.

A product's programs own tiles of outputs and, in splits, a share of the channels.  The sizes
make a thread load 16 bytes of weights at once, have several such loads under way, and not spill
registers (``tests/kernels_triton`` compiles them all); enough programs are started to keep a GPU
busy.  They follow from what the compiler reports, and have not been tuned by measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Streaming multiprocessors of an H100 or H200, assumed where there is no GPU to ask.
PROCESSORS = 132
_WARPS = 4
_THREADS = 32 * _WARPS
#: Programs per multiprocessor that hide the latency of memory; about as many are resident.
_PROGRAMS = 6
#: Splits at most: what a product's splits give is written, and read again to be added.
_SPLITS = 128
#: Numbers a program of the reduction holds, that is 64 registers per thread.
_REDUCED = 8192
#: Elements of a tile, and programs per block of outputs, in Triton's interpreter, whose time goes
#: by operations and hardly by elements.
_INTERPRETED = 2**18
_INTERPRETED_SPLITS = 4

#: Of a tile, per number of rows of x: rows, and channels that a thread takes one after another.
#: More rows need more registers, and leave fewer for loads under way; where a tile has fewer rows
#: than x, others take the rest, at the same time, and find the weights in the cache.
_Tiles = Mapping[int, tuple[int, int]]
_FLOATS: _Tiles = {1: (1, 8), 2: (2, 8), 4: (4, 2), 8: (8, 1)}
_TILES: Mapping[str, _Tiles] = {
    "masked": _FLOATS,
    "listed": _FLOATS,
    "segmented": _FLOATS,
    "bytes": {1: (1, 8), 2: (2, 4), 4: (4, 1), 8: (4, 1)},
    "nibbles": {1: (1, 4), 2: (2, 1), 4: (2, 1), 8: (2, 1)},
    "slots": {1: (1, 2), 2: (2, 1), 4: (2, 1), 8: (2, 1)},
}
#: Neurons that a thread takes a part of, per number of rows.
_NEURONS: Mapping[int, int] = {1: 8, 2: 8, 4: 2, 8: 1}


@dataclass(frozen=True)
class Product:
    """How a product of activations and weights is divided.

    Attributes:
        rows: of a tile, a power of two.
        unroll: channels that a thread takes one after another, per iteration.
        lanes: channels side by side.
        block: outputs per program (bytes of them, of four-bit weights).
        warps: per program.
        share: channels per split, a multiple of unroll times lanes.
        grid: of programs: tiles of rows, blocks of outputs, splits.
    """

    rows: int
    unroll: int
    lanes: int
    block: int
    warps: int
    share: int
    grid: tuple[int, int, int]

    @property
    def splits(self) -> int:
        """Into how many parts the channels are split."""
        return self.grid[2]

    @property
    def tile(self) -> dict[str, int]:
        """The constants of the kernel."""
        return {
            "ROWS": self.rows, "UNROLL": self.unroll, "LANES": self.lanes, "BLOCK": self.block
        }  # fmt: skip


@dataclass(frozen=True)
class Hidden:
    """How the computation of hidden values is divided.

    Attributes:
        rows: of a tile: a power of two, at least those of x.
        neurons: per program.
        lanes: threads along a neuron's channels.
        vector: channels next to each other that a thread takes.
        warps: per program.
    """

    rows: int
    neurons: int
    lanes: int
    vector: int
    warps: int

    @property
    def tile(self) -> dict[str, int]:
        """The constants of the kernel."""
        return {
            "ROWS": self.rows, "NEURONS": self.neurons, "LANES": self.lanes, "VECTOR": self.vector
        }  # fmt: skip


@dataclass(frozen=True)
class Compaction:
    """How the program that lists channels takes them: ``block`` at a time, with ``warps``."""

    rows: int
    block: int
    warps: int


def product(
    kernel: str,
    rows: int,
    outputs: int,
    channels: int,
    itemsize: int,
    processors: int | None = PROCESSORS,
) -> Product:
    """How to divide a product.

    Args:
        kernel: name of the kernel in ``_jit``, or ``bytes`` for ``masked`` with int8 weights.
        rows: of x, 1 to 8.
        outputs: N, or bytes per channel of four-bit weights.
        channels: that a program could skip: K; pairs of slots of N:M weights.
        itemsize: bytes per weight.
        processors: streaming multiprocessors of the device; None for the interpreter.
    """
    tile_rows, unroll = _TILES[kernel][_power_of_two(rows)]
    vector = 16 // itemsize
    block = min(32 * vector, max(32, _power_of_two(outputs)))
    # A block narrower than a warp leaves threads for more channels.
    lanes = _THREADS * vector // block
    if processors is None:
        block = max(block, min(1024, _power_of_two(outputs)))
        unroll = min(_INTERPRETED // (tile_rows * lanes * block), _power_of_two(channels))
    step = unroll * lanes
    row_tiles, blocks = -(-rows // tile_rows), -(-outputs // block)
    wanted = _INTERPRETED_SPLITS
    if processors is not None:
        wanted = min(max(_PROGRAMS * processors // (row_tiles * blocks), 1), _SPLITS)
    # A split of one iteration would start and end more than it works.
    share = max(_multiple(-(-channels // wanted), step), 2 * step)
    splits = max(-(-channels // share), 1)
    return Product(tile_rows, unroll, lanes, block, _WARPS, share, (row_tiles, blocks, splits))


def hidden(rows: int, channels: int, itemsize: int, processors: int | None = PROCESSORS) -> Hidden:
    """How to divide the hidden values of an MLP of ``channels`` inputs; arguments as above."""
    tile_rows = _power_of_two(rows)
    vector = 16 // itemsize
    lanes = min(_THREADS, _power_of_two(-(-channels // vector)))
    neurons = _NEURONS[tile_rows] * (_THREADS // lanes)
    if processors is None:
        neurons = _INTERPRETED // (tile_rows * lanes * vector)
    return Hidden(tile_rows, neurons, lanes, vector, _WARPS)


def compaction(rows: int, channels: int) -> Compaction:
    """How to list the active ones of ``channels``."""
    tile_rows = _power_of_two(rows)
    return Compaction(tile_rows, min(4096 // tile_rows, _power_of_two(channels)), 8)


def reduction_block(splits: int) -> int:
    """How many sums of ``splits`` parts a program takes."""
    return min(max(_REDUCED // _power_of_two(splits), 64), 1024)


def bytes_per_scale(group: int, width: int, block: int) -> int:
    """Bytes next to each other that a kernel gives one scale: a power of two, 16 at most.

    Args:
        group: outputs that share a scale.
        width: bytes per channel; the scale of a byte's high nibble changes where that of its low
            one does only if both divide by what is returned.
        block: bytes per program.
    """
    common = math.gcd(group, width)
    return min(common & -common, block, 16)


def _power_of_two(number: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()


def _multiple(number: int, step: int) -> int:
    """The least multiple of ``step`` that is not less."""
    return -(-number // step) * step
