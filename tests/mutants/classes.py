"""The classes of bugs that published kernels for sparse models had, by which mutants are sorted."""

from __future__ import annotations

CLASSES = {
    1: "missing mask of outputs",
    2: "unmasked load of activations",
    3: "sizes assumed to be multiples of a tile",
    4: "reads past K in a dense mode",
    5: "strides assumed",
    6: "border of segments inside a tile",
    7: "several rows unsupported in silence",
    8: "activation function ignored",
    9: "accumulator not zeroed",
    10: "unsynchronised addition",
    11: "remainder dropped",
    12: "wrong index in shared memory, wrong shuffle",
    13: "what vacuous checks let pass",
    14: "accumulates or stores in half precision",
    15: "scales of skipped channels read",
}
