"""Writes docs/bounds.md: the bound that is computed from a definition, held against those by hand.

    python ci/bounds.py [--examples 3334] [--processes 1] [--docs docs]

Of every op, cases are drawn as the check ``fuzz`` draws them, small ones.  The definition is run in
float32 with sums in three orders, as right kernels have them, and each result is held against
both bounds.  Two ops have no bound by hand: they show that none is needed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.cases import sizes
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.records import record, records
from pytest_sparsity.checking.space import space
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.reference.interception import Interception
from pytest_sparsity.reference.narrowed import narrowed
from pytest_sparsity.reference.ops import Op, as_tuple
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.stochastic import computed_bound
from pytest_sparsity.testing import Draw, sparse_op

_LARGEST = 130  # of K, N and neurons: all products of a case are held at once
_SHARE = 4  # chunks of a split sum
_HEAD = """\
# The bound that is computed from a definition

An op of others needs no error bound: one is computed from its definition, by moving the result of
each operation by what rounding may cost there (`reference/stochastic.py` says how, and where from).
Here it is held against the bounds that were derived by hand for the ops of this project, and
against right kernels: the definition in float32, with sums in three orders (one after another, in
pairs, in four parts). The result of `compact` is exact: it needs no bound. `ratio` is the computed
bound over that by hand, element by element; `used` is the largest share of the computed bound that
a right result took, of which more than 100 % would
be an alarm.
"""


@dataclass
class Seen:
    """What was found of one op."""

    examples: int = 0
    ratios: list[Tensor] = field(default_factory=list)
    used: float = 0.0
    alarms: int = 0
    used_by_hand: float = 0.0


class _Ordered(Interception):
    """Inside, products of matrices and sums are added up in a given order, in float32."""

    def __init__(self, add_up: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._add_up = add_up

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its result, added up in that order."""
        name = func._schema.name
        if name in ("aten::mm", "aten::mv", "aten::bmm", "aten::dot") and args[0].numel():
            left, right = args[0].float(), args[1].float()
            if name == "aten::dot":
                products = left * right
            elif name == "aten::mv":
                products = left * right[None, :]
            else:
                products = left[..., :, None, :] * right.transpose(-1, -2)[..., None, :, :]
            return self._add_up(products).double()
        return func(*args, **kwargs)


def _serial(terms: Tensor) -> Tensor:
    total = terms[..., 0]
    for place in range(1, terms.shape[-1]):
        total = total + terms[..., place]
    return total


def _pairwise(terms: Tensor) -> Tensor:
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        rest = terms[..., 2 * half :]
        terms = torch.cat([terms[..., :half] + terms[..., half : 2 * half], rest], -1)
    return terms[..., 0]


def _split(terms: Tensor) -> Tensor:
    step = max(1, math.ceil(terms.shape[-1] / _SHARE))
    return _serial(torch.stack([_serial(part) for part in torch.split(terms, step, -1)], -1))


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "serial": _serial,
    "pairwise": _pairwise,
    "split": _split,
}


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/bounds.md.")
    parser.add_argument("--examples", type=int, default=3334, help="cases of each op")
    parser.add_argument("--processes", type=int, default=1, help="that measure ops side by side")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    asked = parser.parse_args(given)
    own = [op for op, each in records().items() if each.op.bound is not None]
    ops = [*own, "attention", "norm"]
    with ProcessPoolExecutor(asked.processes, get_context("spawn"), _one_thread) as processes:
        rows = list(processes.map(_row, ops, repeat(asked.examples)))
    table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    origin = f"{asked.examples:,} cases of each op, three orders each; torch {versions()['torch']}."
    command = f"Made by `python ci/bounds.py --examples {asked.examples}`."
    page = asked.docs / "bounds.md"
    # What follows is of another command: tests/mutants/table.py --computed.
    _, heading, rest = (page.read_text() if page.exists() else "").partition("\n## ")
    atomic_write(page, "\n".join([_HEAD, table, "", origin, command, heading + rest]))
    print(table)
    return 1 if any(row["alarms"] != "0" for row in rows) else 0


def measure(op: str, examples: int) -> Seen:
    """Draw cases of an op, and hold right results against its bounds."""
    own, seen = record(op), Seen()
    for number in range(examples):
        case = _drawn(own, number)
        inputs = own.build(case)
        precision = Precision(own.op.lead(inputs).dtype, torch.float32, torch.float32)
        bounds = _computed(own.op, inputs, precision)
        references = as_tuple(own.op.define(inputs))
        by_hand = None if own.foreign else as_tuple(own.op.bound(inputs, precision))  # type: ignore[misc]
        if by_hand is not None:
            for bound, hand in zip(bounds, by_hand, strict=True):
                known = hand.isfinite() & bound.isfinite() & (hand > 0)
                seen.ratios.append((bound / hand)[known].flatten())
        for add_up in ORDERS.values():
            with narrowed(torch.float32), _Ordered(add_up):
                found = as_tuple(own.op.define(inputs))
            for place, (result, reference) in enumerate(zip(found, references, strict=True)):
                rounded = result.to(precision.output)
                used = _largest(rounded, reference, bounds[place])
                seen.used = max(seen.used, used)
                seen.alarms += used > 1
                if by_hand is not None:
                    used = _largest(rounded, reference, by_hand[place])
                    seen.used_by_hand = max(seen.used_by_hand, used)
        seen.examples += 1
    return seen


def _largest(output: Tensor, reference: Tensor, bound: Tensor) -> float:
    if not output.numel():
        return 0.0
    exact = (output == reference.to(output.dtype)) & (bound == 0)
    used = torch.where(exact, 0.0, tolerance_used(output, reference, bound))
    return float(used.max())


def _computed(op: Op, inputs: Any, precision: Precision) -> tuple[Tensor, ...]:
    return computed_bound(lambda: op.define(inputs), {}, precision)


def _drawn(own: OpRecord, number: int) -> Case:
    """A case with values from all over the op's space."""
    lot = torch.Generator().manual_seed(number)
    small = {name: sizes(_LARGEST) for name in ("k", "n", "hidden") if name in own.space}
    small = {name: among for name, among in small.items() if len(own.space[name]) > 1}
    small |= {name: sizes(40) for name in own.space if name.startswith("outputs_")}
    choices = space(own.op.name, None, **small).choices
    drawn = {
        name: among[int(torch.randint(len(among), (1,), generator=lot))]
        for name, among in choices.items()
    }
    return own.case_of(drawn)


def _one_thread() -> None:
    torch.set_num_threads(1)
    _add_ops_without_a_bound()


def _row(op: str, examples: int) -> dict[str, str]:
    seen = measure(op, examples)
    by_hand = bool(seen.ratios)
    ratios = torch.cat(seen.ratios) if by_hand else torch.zeros(0)
    print(f"{op}: {seen.alarms} alarms", flush=True)
    return {
        "op": f"`{op}`",
        "cases": f"{seen.examples:,}",
        "ratio, median": f"{float(ratios.median()):.2f}" if by_hand else "",
        "largest": f"{float(ratios.max()):.2f}" if by_hand else "",
        "used": f"{seen.used:.0%}",
        "used, by hand": f"{seen.used_by_hand:.0%}" if by_hand else "",
        "alarms": str(seen.alarms),
    }


def _add_ops_without_a_bound() -> None:
    """Attention of one token over a cache, and a layer behind a norm."""

    def draw_attention(draw: Draw) -> dict[str, Tensor]:
        k, n = draw.case.k, draw.case.n
        q, keys, values = (
            torch.randn(*shape, generator=draw.generator).to(draw.dtype)
            for shape in ((draw.case.rows, k), (n, k), (n, k))
        )
        return {"q": q, "keys": keys, "values": values}

    shapes = {"rows": (1, 2, 3), "k": (16, 8, 64), "n": (8, 1, 33, 128)}

    @sparse_op(draw=draw_attention, space=shapes)
    def attention(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scores = q @ keys.T / keys.shape[1] ** 0.5
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        found: Tensor = (weights @ values) / weights.sum(-1, keepdim=True)
        return found

    def draw_norm(draw: Draw) -> dict[str, Tensor]:
        x = torch.randn(draw.case.rows, draw.case.k, generator=draw.generator).to(draw.dtype)
        return {"x": x, "weight": draw.weight(draw.case.n, draw.case.k)}

    @sparse_op(draw=draw_norm, space=shapes)
    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return (x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()) @ weight.T


if __name__ == "__main__":
    sys.exit(main())
