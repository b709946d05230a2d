"""The models known by name."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_sparsity.cli.kinds.kind import Item, Kind, megabytes, starred
from pytest_sparsity.models.catalog import KNOWN, PackagedModel, RandomModel, ShippedModel
from pytest_sparsity.settings.options import DEFAULT_MODEL


def _items() -> list[Item]:
    return [
        {
            "name": model.name,
            "default": model.name == DEFAULT_MODEL,
            "licence": model.licence,
            "notice": model.notice,
            **_origin(model),
        }
        for model in KNOWN.values()
    ]


def _origin(model: PackagedModel | ShippedModel | RandomModel) -> Item:
    """Where it comes from, and how many bytes are fetched and kept for it."""
    if isinstance(model, PackagedModel):
        wheels = dict.fromkeys(member.wheel for member in (*model.parts, model.terms))
        return {
            "source": "package index",
            "packages": [f"{wheel.project}=={wheel.version}" for wheel in wheels],
            "download_bytes": sum(wheel.size for wheel in wheels),
            "file_bytes": sum(member.size for member in model.parts),
        }
    if isinstance(model, ShippedModel):
        size = sum(path.stat().st_size for path in model.folder.iterdir())
        return {"source": "shipped", "packages": [], "download_bytes": 0, "file_bytes": size}
    return {"source": "made on the spot", "packages": [], "download_bytes": 0, "file_bytes": 0}


def _source(item: Item) -> str:
    if not item["packages"]:
        return str(item["source"])
    more = len(item["packages"]) - 1
    return f"{item['packages'][0]} and {more} more" if more else str(item["packages"][0])


def _notices(items: Sequence[Item]) -> list[str]:
    return [f"{item['name']}: {item['notice']}" for item in items if item["notice"]]


KIND = Kind(
    items=_items,
    columns={
        "model": starred,
        "licence": lambda item: item["licence"],
        "source": _source,
        "download": lambda item: megabytes(item["download_bytes"]) if item["packages"] else "none",
        "file": lambda item: megabytes(item["file_bytes"]) if item["file_bytes"] else "",
    },
    remarks=_notices,
    notes=(
        "* is the default. --sparsity-model also takes a folder as save_pretrained writes it, a "
        "GGUF file, FILE.powerinfer.gguf, org/name of a hub, or tiny: and one of these for its "
        "architecture in small; `pytest-sparsity models` lists the families that work.",
    ),
    hook="pytest_sparsity_models",
)
