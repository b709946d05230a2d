"""The tasks known by name."""

from __future__ import annotations

from pytest_sparsity.cli.kinds.kind import Item, Kind, megabytes
from pytest_sparsity.evaluation.standard import PROJECT, REQUESTS, SIZE, VERSION
from pytest_sparsity.evaluation.tasks import TASKS, task
from pytest_sparsity.settings.settings import PROFILES


def _items() -> list[Item]:
    return [
        {
            "name": name,
            "family": spec.family,
            "kind": spec.kind,
            "licence": spec.licence,
            "in_package": spec.vendored,
            "full_set": name in REQUESTS,
            "download_bytes": 0 if spec.vendored else SIZE,
            "profiles": [profile for profile, made in PROFILES.items() if name in made.tasks],
            **(_counted(name) if spec.vendored else {"items": None, "chance": None}),
        }
        for name, spec in TASKS.items()
    ]


def _counted(name: str) -> Item:
    found = task(name, seed=0)
    return {"items": len(found.items), "chance": found.chance}


def _data(item: Item) -> str:
    if item["in_package"]:
        return "in the package" + (", or full" if item["full_set"] else "")
    return "full"


KIND = Kind(
    items=_items,
    columns={
        "task": lambda item: item["name"],
        "family": lambda item: item["family"],
        "kind": lambda item: item["kind"],
        "items": lambda item: "" if item["items"] is None else str(item["items"]),
        "chance": lambda item: "" if item["chance"] is None else f"{item['chance']:.0%}",
        "data": _data,
        "default in": lambda item: ", ".join(item["profiles"]),
        "licence": lambda item: item["licence"],
    },
    notes=(
        f"full: with --sparsity-data=full, from {PROJECT} {VERSION}, a download of "
        f"{megabytes(SIZE)}; items are counted in what is in the package.",
        "chance is the share of right answers by blind guessing. --sparsity-tasks also takes your "
        "own .jsonl files and, with the extra lm-eval, lm-eval:NAME.",
    ),
    hook="pytest_sparsity_tasks",
)
