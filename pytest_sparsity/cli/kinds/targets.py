"""What there is to run on here, and the accelerators and processors that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_sparsity.cli.kinds.kind import Item, Kind, yes
from pytest_sparsity.targets import HardwareTarget, cuda_targets, host_target
from pytest_sparsity.targets.known import KNOWN, Figure, Known, Source

_FIGURES = ("bandwidth", "memory", "units", "cache", "overhead")


def _items() -> list[Item]:
    numbers: dict[Source, int] = {}
    for source in (source for row in KNOWN for source in _sources(row)):
        numbers.setdefault(source, len(numbers) + 1)
    here = [_here(target) for target in (host_target(), *cuda_targets())]
    return [*here, *(_known(row, numbers) for row in KNOWN)]


def _here(target: HardwareTarget) -> Item:
    """A target of this machine; its bandwidth is measured by those who need it."""
    return {
        "key": target.device,
        "name": target.name,
        "kind": target.kind,
        "here": True,
        "bandwidth_bytes_per_second": None,
        "memory_bytes": target.memory_bytes or None,
        "units": target.cores,
        "cache_bytes": target.cache_bytes or None,
        "overhead_seconds": None,
        "isa": list(target.isa),
        "sources": [],
    }


def _known(row: Known, numbers: Mapping[Source, int]) -> Item:
    def value(figure: Figure | None) -> float | None:
        return None if figure is None else figure.value

    return {
        "key": row.key,
        "name": row.name,
        "kind": row.kind,
        "here": False,
        "bandwidth_bytes_per_second": row.bandwidth.value,
        "memory_bytes": value(row.memory),
        "units": row.units.value,
        "cache_bytes": value(row.cache),
        "overhead_seconds": value(row.overhead),
        "isa": [],
        "sources": [
            {"number": numbers[source], "title": source.title, "url": source.url}
            for source in _sources(row)
        ],
    }


def _sources(row: Known) -> list[Source]:
    figures: list[Figure | None] = [getattr(row, name) for name in _FIGURES]
    return list(dict.fromkeys(figure.source for figure in figures if figure is not None))


def _scaled(field: str, unit: float) -> Callable[[Item], str]:
    def cell(item: Item) -> str:
        return "" if item[field] is None else f"{item[field] / unit:g}"

    return cell


def _remarks(items: Sequence[Item]) -> list[str]:
    listed = {s["number"]: f"[{s['number']}] {s['title']}, {s['url']}" for s in _cited(items)}
    return [
        "The first rows are of this machine: --sparsity-target takes their keys. The others are "
        "for `pytest-sparsity targets --target KEY`.",
        *(listed[number] for number in sorted(listed)),
    ]


def _cited(items: Sequence[Item]) -> list[Item]:
    return [source for item in items for source in item["sources"]]


KIND = Kind(
    items=_items,
    columns={
        "key": lambda item: item["key"],
        "name": lambda item: item["name"],
        "here": lambda item: yes(item["here"]),
        "GB/s": _scaled("bandwidth_bytes_per_second", 1e9),
        "GB": lambda item: (
            "" if item["memory_bytes"] is None else f"{item['memory_bytes'] / 1e9:.4g}"
        ),
        "units": lambda item: f"{item['units']:g}",
        "cache MiB": _scaled("cache_bytes", 1 << 20),
        "us per call": _scaled("overhead_seconds", 1e-6),
        "sources": lambda item: " ".join(f"[{source['number']}]" for source in item["sources"]),
    },
    remarks=_remarks,
)
