"""The corpora in the package."""

from __future__ import annotations

import contextlib
from typing import get_args

from pytest_sparsity.cli.kinds.kind import Item, Kind
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import CORPORA, Split, corpus
from pytest_sparsity.settings.settings import default_settings


def _items() -> list[Item]:
    default = default_settings()
    serves = {"calibration": default.calibration.split("+"), "evaluation": default.corpora}
    return [
        {
            "name": name,
            "licence": licence,
            "download_bytes": 0,
            "splits": _splits(name),
            "default_for": [split for split, names in serves.items() if name in names],
        }
        for name, licence in CORPORA.items()
    ]


def _splits(name: str) -> Item:
    found = {}
    for split in get_args(Split):
        with contextlib.suppress(SparsityError):  # it has no such split
            documents = corpus(name, split).documents
            characters = sum(len(document.text) for document in documents)
            found[split] = {"documents": len(documents), "characters": characters}
    return found


def _documents(item: Item, split: str) -> str:
    if split not in item["splits"]:
        return "none"
    count = item["splits"][split]["documents"]
    return f"{count} *" if split in item["default_for"] else str(count)


KIND = Kind(
    items=_items,
    columns={
        "corpus": lambda item: item["name"],
        "calibration": lambda item: _documents(item, "calibration"),
        "evaluation": lambda item: _documents(item, "evaluation"),
        "licence": lambda item: item["licence"],
    },
    notes=(
        "Numbers are documents; those of a split are in no other. All are in the package; * is "
        "used by default.",
        "--sparsity-corpora and --sparsity-calibration also take your own .txt and .jsonl files, "
        "the second a mixture (austen+jargon), too.",
    ),
    hook="pytest_sparsity_corpora",
)
