"""The cases an op has: for every parameter the values it may take, the simplest first.

Hypothesis draws the places of values in these lists, not the values: drawing integers it prefers
one and two, and in 100 cases half had so few channels that wrong kernels passed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pytest_sparsity.checking.case import DTYPES, LAYOUTS, PATTERNS, VALUES, Case
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.operands import MAX_ROWS
from pytest_sparsity.reference.ops import OPS

#: Drawn more often than their neighbours: sizes of models, and tile sizes with what is beside.
NOTABLE = (1, 2, 3, 7, 31, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 384, 576, 577, 640)
#: Drawn once in a while: what they cost under an interpreter is seconds.
LARGE = (1536, 2048)
#: Ascending, so that a place that shrinks is a size that shrinks.
SIZES = tuple(sorted((*range(1, 161), *NOTABLE * 4, *LARGE)))

LEVELS = (0.5, 0.0, 0.25, 0.75, 0.9, 0.99, 1.0)
GROUPS = (32, 1, 2, 4, 8, 16, 64, 128)
PACKINGS = ((2, 4), (4, 8), (8, 16))

_LIST = ("random", "all", "none", "one", "first", "last", "alternating", "blocks", "large")
_HIDDEN = (*_LIST, "nan")
_PATTERNS: dict[str, tuple[str, ...]] = {
    # The channels are given, or there is no threshold on x: ties have no meaning.
    "sparse_linear_indexed": (*_LIST, "infinite", "nan"),
    "sparse_swiglu": (*_HIDDEN, "zeros", "rows_differ"),
    # 0 times infinity is NaN, unless a kernel leaves out neurons that are zero, which it may.
    "hot_cold_mlp": _HIDDEN,
}
_LAYOUTS: dict[str, tuple[str, ...]] = {
    # Rows of a payload are contiguous; packed weights have no other layout at all; x and bias may.
    "sparse_quantized_linear": ("best", "pitch", "offset", "strided"),
    "semi_structured_linear": ("best", "pitch", "offset", "strided"),
    "compact": ("best", "pitch", "offset", "strided"),
}


@dataclass(frozen=True)
class Space:
    """Cases to draw from.

    Attributes:
        choices: values of fields of ``Case`` and options of the op, the simplest first; one that
            is there several times is drawn that much more often.
    """

    choices: Mapping[str, Sequence[Any]]

    def strategy(self, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
        """Draws them, and shrinks to the simplest; ``given`` are drawn otherwise."""
        drawn = {
            name: st.sampled_from(among)
            for name, among in self.choices.items()
            if name not in given
        }
        return st.fixed_dictionaries(drawn | given).map(case_of)


def space(op: str, kernel: Kernel | None = None, **fixed: Sequence[Any]) -> Space:
    """The cases of ``op`` that ``kernel`` says it takes.

    Args:
        op: name of an op.
        kernel: limits rows and dtypes to its own.
        fixed: other values of some parameters.

    Raises:
        TypeError: the op has no such parameter.
    """
    choices = _fields(op, kernel) | _options(op)
    for name, among in fixed.items():
        if name not in choices:
            raise TypeError(f"cases of {op} have no {name!r}, only {', '.join(choices)}")
        choices[name] = among
    return Space(choices)


def patterns(op: str) -> tuple[str, ...]:
    """The patterns that mean something for ``op``, the simplest first."""
    return _PATTERNS.get(op, PATTERNS)


def layouts(op: str) -> tuple[str, ...]:
    """The layouts that operands of ``op`` can have, the simplest first."""
    return _LAYOUTS.get(op, LAYOUTS)


def options(op: str) -> tuple[str, ...]:
    """Names of the parameters of cases that ``op`` has beside those of all ops."""
    return tuple(_options(op))


def has_bias(op: str) -> bool:
    """Whether operands of ``op`` may have a bias."""
    return "bias" in {field.name for field in dataclasses.fields(OPS[op].inputs)}


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


def fitted(case: Case) -> Case:
    """``case`` with n the sum of the sizes of q, k and v, and k whole groups of n:m."""
    group = case.option("nm", (1, 1))[1]
    outputs = sum(case.option("sizes", (case.n,)))
    return dataclasses.replace(case, k=-(-case.k // group) * group, n=outputs)


def case_of(drawn: Mapping[str, Any]) -> Case:
    """The case with these values of fields and options."""
    fields = {field.name for field in dataclasses.fields(Case)}
    options = {name: value for name, value in drawn.items() if name not in fields}
    if "outputs_q" in options:
        options["sizes"] = tuple(options.pop(f"outputs_{part}") for part in "qkv")
    if "hot" in options:
        options["hot"] = int(options["hot"] * options["hidden"])
    if options.get("bits") == 8:
        del options["group"]
    of_all = {name: value for name, value in drawn.items() if name in fields}
    return fitted(Case(**of_all, options=tuple(options.items())))


def _fields(op: str, kernel: Kernel | None) -> dict[str, Sequence[Any]]:
    """What every op has, what is to shrink first in front."""
    rows = min(MAX_ROWS, kernel.max_rows) if kernel else MAX_ROWS
    return {
        "rows": range(1, rows + 1),
        "k": SIZES,
        "n": (1,) if op in ("compact", "sparse_qkv") else SIZES,
        "dtype": [dtype for dtype in DTYPES if kernel is None or dtype in kernel.dtypes],
        "pattern": _often_first(patterns(op)),
        "values": VALUES,
        "layout": _often_first(layouts(op)),
        "bias": (False, True) if has_bias(op) else (False,),
        "level": LEVELS,
        "seed": range(2**16),
    }


def _options(op: str) -> dict[str, Sequence[Any]]:
    """What one op has; "hot" is the share of the neurons."""
    mlp: dict[str, Sequence[Any]] = {"hidden": SIZES, "activation": ACTIVATIONS}
    known: dict[str, dict[str, Sequence[Any]]] = {
        "sparse_qkv": {f"outputs_{part}": sizes(640) for part in "qkv"},
        "sparse_swiglu": mlp,
        "hot_cold_mlp": {**mlp, "hot": (0.5, 0.0, 1.0, 0.1), "gate": (False, True)},
        "sparse_quantized_linear": {"bits": (8, 4), "group": GROUPS},
        "semi_structured_linear": {"nm": PACKINGS},
    }
    return known.get(op, {})


def _often_first(values: Sequence[str]) -> Sequence[str]:
    """The first in a quarter of the cases, else any."""
    return (values[0],) * (len(values) // 3) + tuple(values)
