"""The methods that choose what to skip."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_sparsity.cli.kinds.kind import Item, Kind, first_sentence, starred
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.levels import NATURAL, ONLY_LEVELS, has_level
from pytest_sparsity.settings.settings import default_settings

if TYPE_CHECKING:
    from pytest_sparsity.methods.registry import Method

_DENSE: Item = {
    "name": "dense",
    "about": "The reference: nothing is skipped; always measured.",
    "default": True,
    "levels": [0.0],
    "variants": [],
    "takes": [],
    "note": "",
    "deprecated": "",
    "parameters": {},
}
_VARIANTS = ("model", "capacity", NATURAL)


def _items() -> list[Item]:
    from pytest_sparsity.methods.registry import by_name, takes_of

    methods = by_name()
    default = default_settings().methods
    return [
        _DENSE,
        *(
            {
                "name": name,
                "about": first_sentence(type(method).__doc__),
                "default": name in default,
                "levels": levels(name),
                "variants": _variants(name, methods),
                "takes": list(takes_of(method)),
                "note": getattr(method, "note", ""),
                "deprecated": getattr(method, "deprecated", ""),
                "parameters": dict(method.parameters),
            }
            for name, method in methods.items()
        ),
    ]


def levels(name: str) -> list[float] | None:
    """The levels that a method takes: None for any, empty where the share is the model's own."""
    if not has_level(name):
        return []
    return list(ONLY_LEVELS[name]) if name in ONLY_LEVELS else None


def _variants(name: str, methods: Mapping[str, Method]) -> list[Item]:
    from pytest_sparsity.methods.registry import find, takes_of

    found = []
    for text in _VARIANTS:
        with contextlib.suppress(SparsityError):  # it has no such variant
            method = find(methods, f"{name}:{text}")
            needs = list(getattr(method, "needs", ()))
            found.append({"name": method.name, "takes": list(takes_of(method)), "needs": needs})
    return found


def _levels(item: Item) -> str:
    if item["levels"] is None:
        return "any"
    return ", ".join(f"{level:g}" for level in item["levels"]) or "its own"


def _suffixes(item: Item) -> str:
    return ", ".join(":" + variant["name"].partition(":")[2] for variant in item["variants"])


def _takes(item: Item) -> str:
    from pytest_sparsity.methods.given.given import DESCRIBED

    taken = dict.fromkeys([*item["takes"], *(t for v in item["variants"] for t in v["takes"])])
    return ", ".join(DESCRIBED.get(kind, kind) for kind in taken)


def _remarks(items: Sequence[Item]) -> list[str]:
    from pytest_sparsity.methods.given.given import DESCRIBED

    needing = [
        f"{variant['name']} needs {' and '.join(DESCRIBED[kind] for kind in variant['needs'])}"
        for item in items
        for variant in item["variants"]
        if variant["needs"]
    ]
    return [
        *(f"{item['name']}: {item['note']}" for item in items if item["note"]),
        *(f"{item['name']} is deprecated: {i}" for item in items if (i := item["deprecated"])),
        f"* is measured by default; {', '.join(needing)}.",
    ]


KIND = Kind(
    items=_items,
    columns={
        "method": starred,
        "levels": _levels,
        "variants": _suffixes,
        "takes": _takes,
        "what it does": lambda item: item["about"],
    },
    remarks=_remarks,
    notes=(
        f"NAME:{NATURAL} has no level: it cuts where its file says, or the engine would. Files are "
        "named with --sparsity-predictors.",
    ),
    hook="pytest_sparsity_methods",
)
