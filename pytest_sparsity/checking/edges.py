"""The list of cases in which kernels have been wrong: not drawn, run every time, small ones first.

Rows of the table of published defects that it holds: a missing mask that shows when the last
channel is active, sizes beside a multiple of any tile, a border of q, k and v within a tile,
several rows, activations other than the first, weights that are slices, sums of -0 with a bias.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from pytest_sparsity.checking import space
from pytest_sparsity.checking.case import VALUES, Case, Value
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.operands import MAX_ROWS

#: K and N: one, primes, beside tiles on either side, and sizes of small models.
_SHAPES = ((1, 1), (13, 7), (65, 63), (127, 129), (200, 31), (257, 192), (576, 192), (192, 577))
#: The middle shape, for what does not go with every shape.
_SHAPE = (129, 65)


#: K, N and neurons: more than a tile holds, and more than 16 bits can count.
_LARGE = ((2050, 1100, 300), (65539, 2, 2), (2, 65539, 2))

#: How many rows, one after the other: often one, and all that kernels take.
_ROWS = (1, 2, 3, 1, 8, 5, 1, 4, 7, 6, 1)
_HIDDEN = (65, 1, 192)


def edges(kernel: Kernel) -> list[Case]:
    """The edge cases of the kernel's op, of dtypes and numbers of rows it takes."""
    op = kernel.op
    patterns, layouts = space.patterns(op), space.layouts(op)
    cases = [Case(1, k, n, pattern=pattern) for pattern, (k, n) in product(patterns, _SHAPES)]
    cases += [Case(1, *_SHAPE, layout=layout) for layout in layouts]
    cases += [Case(1, *_SHAPE, level=level) for level in (0.0, 1.0)]
    # Nothing but -0 and 0, and a bias, beyond the last multiple of 128 channels: vLLM 13198.
    cases += [Case(1, 200, 31, pattern="zeros", level=1.0)] if "zeros" in patterns else []
    cases += [Case(1, *_SHAPE)] * len(_options(op))
    varied = [_varied(kernel, case, index) for index, case in enumerate(cases)]
    varied += [_large(kernel, index) for index in range(len(_LARGE))]
    return sorted(varied, key=lambda case: (case.k * case.n, case.rows))


def _varied(kernel: Kernel, case: Case, index: int) -> Case:
    """``case`` with one of everything else in turn: all combinations would be thousands."""
    layouts, options = space.layouts(kernel.op), _options(kernel.op)
    if case.layout == "best" and index % 2:
        case = replace(case, layout=layouts[index // 2 % len(layouts)])
    if options:
        # Once around, the next ones go with another half of the layouts.
        turn = index // len(options)
        case = case.with_options(**options[(index + turn) % len(options)])
    return space.fitted(
        replace(
            case,
            rows=min(_ROWS[index % len(_ROWS)], kernel.max_rows, MAX_ROWS),
            dtype=kernel.dtypes[index % len(kernel.dtypes)],
            values=VALUES[index // 2 % len(VALUES)],
            bias=space.has_bias(kernel.op) and index % 5 != 0,
            seed=index,
        )
    )


def _large(kernel: Kernel, index: int) -> Case:
    """Ordinary but for its size."""
    k, n, hidden = _LARGE[index]
    case = Case(
        rows=min(index % 2 + 1, kernel.max_rows),
        k=k,
        n=n,
        dtype=kernel.dtypes[index % len(kernel.dtypes)],
        bias=space.has_bias(kernel.op),
    )
    own: dict[str, Value] = {"hidden": hidden, "hot": hidden // 2}
    own = {name: value for name, value in own.items() if name in space.options(kernel.op)}
    if kernel.op == "sparse_qkv":
        own = {"sizes": (n - n // 2, n // 4 + 1, n // 4 + 1)}
    if kernel.op == "semi_structured_linear":
        own = {"nm": space.PACKINGS[index % len(space.PACKINGS)]}
    return space.fitted(case.with_options(**own))


def _options(op: str) -> list[dict[str, Value]]:
    """Values of the op's own parameters that kernels have got wrong."""
    if op == "sparse_qkv":
        sizes = ((576, 192, 192), (1, 1, 1), (65, 1, 63), (100, 3, 29), (192, 64, 64))
        return [{"sizes": three} for three in sizes]
    if op == "sparse_swiglu":
        return [
            {"activation": name, "hidden": hidden} for hidden, name in product(_HIDDEN, ACTIVATIONS)
        ]
    if op == "hot_cold_mlp":
        return [
            {"activation": name, "gate": gate, "hidden": hidden, "hot": hot}
            for gate, hidden, name in product((False, True), _HIDDEN, ACTIVATIONS)
            for hot in {0, hidden // 3, hidden}
        ]
    if op == "sparse_quantized_linear":
        four: list[dict[str, Value]] = [{"bits": 4, "group": g} for g in (32, 1, 2, 8, 128)]
        return [{"bits": 8}, *four]
    if op == "semi_structured_linear":
        return [{"nm": packing} for packing in space.PACKINGS]
    return []
