"""What the checks of kernels came to: a line per check in a file, a row per kernel in a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "kernels.jsonl"
SCHEMA = 1


class KernelLog:
    """The outcomes of kernel checks of one run, written as they come.

    Args:
        folder: where the file goes.
        origin: what makes outcomes of two runs comparable, repeated in every line.
    """

    def __init__(self, folder: Path, origin: Mapping[str, Any]) -> None:
        self._path = folder / FILE
        self._origin = {"schema": SCHEMA, **origin}
        self._outcomes: list[Mapping[str, Any]] = []

    def add(self, outcomes: Sequence[Mapping[str, Any]]) -> None:
        """Keep outcomes as ``kernel_check`` tells them."""
        # A run begins a file of its own: outcomes of different sources do not mix.
        with self._path.open("a" if self._outcomes else "w") as file:
            for outcome in outcomes:
                file.write(json.dumps({**self._origin, **outcome}) + "\n")
        self._outcomes += outcomes

    @property
    def ran(self) -> bool:
        """Whether any check was run, rather than skipped."""
        return any(outcome["status"] != "skipped" for outcome in self._outcomes)

    def table(self) -> str:
        """One row per kernel; empty if nothing was checked."""
        from tabulate import tabulate

        by_kernel: dict[str, list[Mapping[str, Any]]] = {}
        for outcome in self._outcomes:
            by_kernel.setdefault(outcome["kernel"], []).append(outcome)
        if not by_kernel:
            return ""
        rows = [_row(kernel, outcomes) for kernel, outcomes in sorted(by_kernel.items())]
        return str(
            tabulate(rows, headers="keys", colalign=("left", "right", "right", "right", "left"))
        )


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
