"""The methods that choose what to skip."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pytest_sparsity.cli.kinds.kind import Item, Kind, first_sentence
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.levels import NATURAL, ONLY_LEVELS, has_level

_DENSE: Item = {
    "name": "dense",
    "about": "The reference: nothing is skipped; always measured.",
    "levels": [],
    "variants": [],
    "takes": [],
    "needs": [],
    "note": "",
    "deprecated": "",
    "parameters": {},
}
_VARIANTS = ("model", "capacity", NATURAL)


def _items() -> list[Item]:
    from pytest_sparsity.methods.registry import by_name, takes_of

    return [
        _DENSE,
        *(
            {
                "name": name,
                "about": first_sentence(type(method).__doc__),
                "levels": levels(name),
                "variants": _variants(name),
                "takes": list(takes_of(method)),
                "needs": list(getattr(method, "needs", ())),
                "note": getattr(method, "note", ""),
                "deprecated": getattr(method, "deprecated", ""),
                "parameters": dict(method.parameters),
            }
            for name, method in by_name().items()
        ),
    ]


def levels(name: str) -> list[float] | None:
    """The levels that a method takes: None for any, empty where the share is the model's own."""
    if not has_level(name):
        return []
    return list(ONLY_LEVELS[name]) if name in ONLY_LEVELS else None


def _variants(name: str) -> list[str]:
    from pytest_sparsity.methods.registry import by_name, find

    found = []
    for text in _VARIANTS:
        with contextlib.suppress(SparsityError):
            found.append(find(by_name(), f"{name}:{text}").name)
    return found


def _levels(item: Item) -> str:
    if item["levels"] is None:
        return "any"
    return ", ".join(f"{level:g}" for level in item["levels"]) or "its own"


def _notes(items: Sequence[Item]) -> list[str]:
    return [
        *(f"{item['name']}: {item['note']}" for item in items if item["note"]),
        *(f"{item['name']} is deprecated: {i}" for item in items if (i := item["deprecated"])),
        f"NAME:{NATURAL} has no level: it cuts where its file says. What a method takes comes from "
        "--sparsity-predictors.",
        "Methods that a conftest.py adds by the hook pytest_sparsity_methods are known to pytest "
        "only.",
    ]


KIND = Kind(
    items=_items,
    columns={
        "method": lambda item: item["name"],
        "levels": _levels,
        "variants": lambda item: ", ".join(f":{v.partition(':')[2]}" for v in item["variants"]),
        "takes": lambda item: ", ".join(item["takes"]),
        "what it does": lambda item: item["about"],
    },
    notes=_notes,
)
