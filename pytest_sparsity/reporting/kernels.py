"""Results of kernel checks: a line per check in a file, a row per kernel in a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "kernels.jsonl"
SCHEMA = 1


def add(
    folder: Path, origin: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, begin: bool
) -> None:
    """Append results of checks to the file of a report folder.

    Args:
        folder: where the file goes.
        origin: what makes results of two runs comparable, repeated in every line.
        results: as ``kernel_check`` sends them.
        begin: whether to replace the file.
    """
    with (folder / FILE).open("w" if begin else "a") as file:
        for result in results:
            file.write(json.dumps({"schema": SCHEMA, **origin, **result}) + "\n")


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """One row per kernel; empty if nothing was checked."""
    from tabulate import tabulate

    by_kernel: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_kernel.setdefault(result["kernel"], []).append(result)
    if not by_kernel:
        return ""
    rows = [_row(kernel, own) for kernel, own in sorted(by_kernel.items())]
    return str(tabulate(rows, headers="keys", colalign=("left", "right", "right", "right", "left")))


def _row(kernel: str, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    ran = [outcome for outcome in outcomes if outcome["status"] != "skipped"]
    failed = [outcome["check"] for outcome in ran if outcome["status"] == "failed"]
    reasons = dict.fromkeys(o["message"] for o in outcomes if o["status"] == "skipped")
    remark = f"FAILED {', '.join(failed)}" if failed else "; ".join(reasons)
    return {
        "kernel": kernel,
        "checks passed": f"{len(ran) - len(failed)} of {len(outcomes)}",
        "cases": f"{sum(outcome['examples'] for outcome in ran)}" if ran else "",
        "tolerance used": f"{max(o['tolerance'] for o in ran):.0%}" if ran else "",
        "": remark,
    }
