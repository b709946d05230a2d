"""What the gate decided, for the terminal, for Markdown and as gate.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FILE = "gate.json"
SCHEMA = 1

#: Worst first: the order in which decisions are shown.
ORDER = ("regressed", "suspect", "inconclusive", "not comparable", "improved", "ok")
_COMPARED = frozenset(ORDER) - {"not comparable"}

Decided = Mapping[str, Any]
"""A decision as plain data, see ``plugin.sent.GATED``."""


def counts(decided: Iterable[Decided]) -> dict[str, int]:
    """How many decisions there are of each kind, worst first."""
    found = [each["decision"] for each in decided]
    return {name: found.count(name) for name in ORDER}


def compared(decided: Iterable[Decided]) -> bool:
    """Whether anything was compared at all."""
    return any(each["decision"] in _COMPARED for each in decided)


def headline(decided: Sequence[Decided]) -> str:
    """``1 regressed, 8 ok``."""
    found = [f"{count} {name}" for name, count in counts(decided).items() if count]
    return ", ".join(found) or "nothing was compared"


def gate_json(
    mode: str, decided: Sequence[Decided], unmatched: Sequence[str], compared_with: str
) -> str:
    """The file that scripts read.

    Args:
        mode: of ``--sparsity-gate``.
        decided: every decision.
        unmatched: ids that were measured and have nothing stored to compare with.
        compared_with: the baseline's folder, the revision or the kernel.
    """
    content = {
        "schema": SCHEMA,
        "gate": mode,
        "against": compared_with,
        "counts": counts(decided),
        "decisions": list(map(dict, _sorted(decided))),
        "without_baseline": list(unmatched),
    }
    return json.dumps(content, indent=1) + "\n"


def gate_lines(decided: Sequence[Decided], unmatched: Sequence[str]) -> list[str]:
    """For the terminal: a line per decision that is not ok, and how many are."""
    shown = [each for each in _sorted(decided) if each["decision"] != "ok"]
    lines = [f"{each['decision']:<14}  {each['id']}: {each['reason']}" for each in shown]
    if unmatched:
        lines.append(f"{_unmatched(unmatched)}: {', '.join(unmatched)}")
    return [*lines, f"gate: {headline(decided)}"]


def gate_markdown(decided: Sequence[Decided], unmatched: Sequence[str]) -> str:
    """For GitHub: a headline and a table, worst first; rows that are ok are in a folded section."""
    from pytest_sparsity.reporting.columns import escape

    def table(rows: Sequence[Decided]) -> list[str]:
        return [
            "| decision | what | why |",
            "|---|---|---|",
            *(
                f"| {each['decision']} | {escape(each['id'])} | {escape(each['reason'])} |"
                for each in rows
            ),
        ]

    rows = _sorted(decided)
    worth = [each for each in rows if each["decision"] != "ok"]
    fine = [each for each in rows if each["decision"] == "ok"]
    parts = ["## Gate", f"{headline(decided)}."]
    if worth:
        parts.append("\n".join(table(worth)))
    if unmatched:
        parts.append(f"{_unmatched(unmatched)}: {escape(', '.join(unmatched))}.")
    if fine:
        inside = "\n".join(table(fine))
        parts.append(f"<details><summary>{len(fine)} ok</summary>\n\n{inside}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _sorted(decided: Iterable[Decided]) -> list[Decided]:
    return sorted(decided, key=lambda d: (ORDER.index(d["decision"]), d["kind"], d["id"]))


def _unmatched(unmatched: Sequence[str]) -> str:
    return f"{len(unmatched)} measured without anything stored to compare with"
