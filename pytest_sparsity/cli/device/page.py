"""The short page of what was found on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_sparsity.cli.device.part import Progress, Result
from pytest_sparsity.cli.device.parts import CONTRADICTED


def page(device: str, when: str, versions: Mapping[str, str | None], found: Progress) -> str:
    """The page, in Markdown."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    parts = [f"# {device}", f"{when}; {named}. Written by `pytest-sparsity device`."]
    parts.append("\n".join(_table(found)))
    if speeds := list(_speeds(found.results)):
        head = "| layer | kernel | us | floor, us | of a copy | beside the floor | times cuBLAS |"
        parts += ["## Speed", "\n".join([head, "|---|---|---|---|---|---|---|", *speeds])]
    if CONTRADICTED in found.results:
        parts += ["## Where the device contradicts", "\n".join(_contradictions(found.results))]
    return "\n\n".join(parts) + "\n"


def _table(found: Progress) -> Iterator[str]:
    yield "| part | result | |"
    yield "|---|---|---|"
    for name, result in found.results.items():
        yield f"| {name} | {result['status']} | {_cell(_remark(result))} |"
    for name, reason in found.left.items():
        yield f"| {name} | not done | {_cell(reason)} |"


def _remark(result: Result) -> str:
    if "reason" in result:
        return str(result["reason"])
    if "checks" in result:
        failed = [c for c in result["checks"] if c["status"] == "failed"]
        names = ", ".join(f"{c['kernel']} {c['check']}" for c in failed[:4])
        more = f" and {len(failed) - 4} more" if len(failed) > 4 else ""
        told = f"; failed: {names}{more}" if failed else ""
        return f"{len(result['checks'])} checks{told}"
    if "nats" in result:
        return f"at most {max(result['nats'].values()):.1e} nats per token from the CPU's"
    if "contradictions" in result:
        return f"{len(result['contradictions'])} contradictions"
    if "records" in result:
        return f"{len(result['records'])} records"
    return "; ".join(result.get("found", [])[:2])


def _speeds(results: Mapping[str, Result]) -> Iterator[str]:
    for name, result in results.items():
        for kernel, figures in result.get("kernels", {}).items():
            mark = " (fastest)" if kernel == result["fastest"] else ""
            ratio, low, high = figures["times_cublas"]
            yield (
                f"| {name.removeprefix('speed of ')} | {kernel}{mark} | "
                f"{figures['seconds'] * 1e6:.1f} | {result['floor_seconds'] * 1e6:.1f} | "
                f"{figures['share_of_copy']:.0%} (at least {result['least']:.0%}) | "
                f"{figures['share_beside_the_floor']:.0%} | {ratio:.2f} [{low:.2f}, {high:.2f}] |"
            )


def _contradictions(results: Mapping[str, Result]) -> Iterator[str]:
    found = results[CONTRADICTED]["contradictions"]
    if not found:
        yield "None: every check that ran in both places came out alike."
        return
    yield "| kernel | check | device | without | what it means | message |"
    yield "|---|---|---|---|---|---|"
    for each in found:
        names = ("kernel", "check", "device", "interpreter", "meaning", "message")
        yield "| " + " | ".join(_cell(str(each[name])) for name in names) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
