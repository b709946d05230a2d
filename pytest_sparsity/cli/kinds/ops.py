"""The ops that kernels implement."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from pytest_sparsity.cli.kinds.kind import Item, Kind, first_sentence

if TYPE_CHECKING:
    from pytest_sparsity.reference.ops import Op


def _items() -> list[Item]:
    from pytest_sparsity.checking.records import records
    from pytest_sparsity.kernels.registry import registered

    kernels = registered().values()
    return [
        {
            "name": name,
            "about": _about(op),
            "operands": {field.name: str(field.type) for field in dataclasses.fields(op.inputs)},
            "exact": op.bound is None,
            "kernels": sorted(kernel.name for kernel in kernels if kernel.op == name),
        }
        for name, op in ((name, own.op) for name, own in records().items())
    ]


def _about(op: Op) -> str:
    """What it computes: as the author of the definition says, or the module of ours."""
    return op.about or first_sentence(sys.modules[op.define.__module__].__doc__).partition(": ")[2]


KIND = Kind(
    items=_items,
    columns={
        "op": lambda item: item["name"],
        "operands": lambda item: ", ".join(item["operands"]),
        "held to": lambda item: "equality" if item["exact"] else "error bound",
        "kernels": lambda item: str(len(item["kernels"])),
        "what it computes": lambda item: item["about"],
    },
    notes=(
        "Defined in float64 in pytest_sparsity.reference; docs/kernels.md has the formulas. "
        "`pytest-sparsity list kernels` has the kernels.",
    ),
)
