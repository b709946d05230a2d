"""What the checks of kernels came to, for people: a row per kernel, and what took long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Checks that are named as the slowest, and how long such a check takes at least, in seconds.
_SLOWEST, _SLOW = 5, 1.0

Outcome = Mapping[str, Any]


def table(results: Iterable[Outcome]) -> str:
    """One row per kernel; empty if nothing was checked."""
    from tabulate import tabulate

    by_kernel: dict[str, list[Outcome]] = {}
    for result in results:
        by_kernel.setdefault(result["kernel"], []).append(result)
    if not by_kernel:
        return ""
    rows = [_row(kernel, own) for kernel, own in sorted(by_kernel.items())]
    return str(tabulate(rows, headers="keys", colalign=("left", "right", "right", "right", "left")))


def remarks(results: Sequence[Outcome]) -> list[str]:
    """Lines below the table: what was taken from an earlier run, what not, and what took long."""
    kept = sum(result["reused"] for result in results)
    lines = []
    if kept:
        lines.append(
            f"{kept} of {len(results)} checks passed in an earlier run, and nothing that they "
            "depend on has changed; --sparsity-rerun runs them again"
        )
    anew = Counter(result["anew"] for result in results if result["anew"])
    if anew:
        told = ", ".join(f"{what} ({count})" for what, count in anew.most_common())
        lines.append(f"checked again, since these are not what they were there: {told}")
    ran = [result for result in results if not result["reused"]]
    slow = sorted(ran, key=lambda result: -result["seconds"])[:_SLOWEST]
    if told := ", ".join(
        f"{each['kernel']} {each['check']} {each['seconds']:.0f} s"
        for each in slow
        if each["seconds"] >= _SLOW
    ):
        total = sum(result["seconds"] for result in ran)
        lines.append(f"{total:.0f} s of checks; the slowest: {told}")
    return lines


def line(kernel: str, outcomes: Sequence[Outcome]) -> str:
    """What the checks of one kernel came to, in a line."""
    ran = [outcome for outcome in outcomes if not outcome["reused"]]
    failed = [outcome["check"] for outcome in ran if outcome["status"] == "failed"]
    counts = Counter(outcome["status"] for outcome in ran)
    if kept := len(outcomes) - len(ran):
        counts["passed in an earlier run"] = kept
    told = [f"{count} {what}" for what, count in counts.items() if what != "failed"]
    told += [f"FAILED {', '.join(failed)}"] if failed else []
    seconds = f"  {sum(outcome['seconds'] for outcome in ran):.0f} s" if ran else ""
    return f"{kernel}  {', '.join(told)}{seconds}"


def _row(kernel: str, outcomes: Sequence[Outcome]) -> dict[str, str]:
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
