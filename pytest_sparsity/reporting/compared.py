"""Two runs side by side: tables for the terminal and Markdown, and a file for scripts."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.arrange import label
from pytest_sparsity.reporting.columns import Column, Table, escape
from pytest_sparsity.reporting.gate import counts, gate_lines, gate_markdown, headline
from pytest_sparsity.sweep.cell import DIVERGENCE, PERPLEXITY

if TYPE_CHECKING:
    from pytest_sparsity.core.statistics import Interval
    from pytest_sparsity.sweep.regression import AccuracyComparison
    from pytest_sparsity.sweep.sample_changes import SampleComparison

SCHEMA = 1
LEGEND = (
    "Worse by: B against A on the same documents or items, [95 % interval]; below 0 is better.",
    "Damage: what sparsity costs, sparse against dense; worse by how much more it costs in B.",
)
Write = Callable[[float], str]


@dataclass(frozen=True)
class Row:
    """A row of a table: one decision, and how its figures are written.

    Attributes:
        group: title of its table: an evaluation, or the task of another engine.
        name: of the row.
        decided: the decision as plain data, as in ``gate.json``.
        value: writes the figure of a side.
        change: writes the change.
    """

    group: str
    name: str
    decided: dict[str, Any]
    value: Write
    change: Callable[[Interval], str]
    interval: Interval | None


def rows_of_cells(comparisons: Iterable[AccuracyComparison]) -> list[Row]:
    """Rows of two report folders."""
    rows = []
    for found in comparisons:
        cell = found.cell
        damage = bool(found.part)
        name = label(cell.configuration) + (f", {found.part}" if damage else "")
        value: Write = _points if damage else numbers.percent
        change = _worse_points
        if cell.kind == PERPLEXITY:
            value, change = (_relative if damage else numbers.perplexity), _worse_percent
        elif cell.kind == DIVERGENCE:
            value, change = numbers.nats, numbers.nats_change
        group = f"{cell.configuration.model}: {cell.evaluation}"
        rows.append(Row(group, name, found.to_json(), value, change, found.change))
    return rows


def rows_of_samples(comparisons: Iterable[SampleComparison]) -> list[Row]:
    """Rows of two runs of another engine."""
    rows = []
    for found in comparisons:
        share = found.p_value is not None
        value: Write = numbers.percent if share else (lambda number: f"{number:.4g}")
        change = _worse_points if share else _worse
        rows.append(Row(found.task, found.metric, found.to_json(), value, change, found.change))
    return rows


def compared_text(rows: Sequence[Row], missing: Sequence[str], width: int) -> str:
    """Tables, how to read them, what is not ok in full, and the counts."""
    blocks = [part.text() for table in _tables(rows) for part in table.fit(width)]
    *lines, _ = gate_lines([row.decided for row in rows], [])
    said = [
        part
        for line in [*missing, *lines]
        for part in textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False)
    ]
    _, total = conclusion_of(rows)
    return "\n\n".join([*blocks, "\n".join(LEGEND), "\n".join([*said, total])])


def compared_markdown(rows: Sequence[Row], missing: Sequence[str], a: str, b: str) -> str:
    """The same for GitHub."""
    parts = [f"# {escape(a)} and {escape(b)}", *(table.markdown() for table in _tables(rows))]
    parts += [" ".join(map(escape, LEGEND)), "\n".join(f"- {escape(line)}" for line in missing)]
    return "\n\n".join([*filter(None, parts), gate_markdown([row.decided for row in rows], [])])


def compared_json(rows: Sequence[Row], missing: Sequence[str], a: str, b: str) -> str:
    """The file that scripts read: decisions as in gate.json."""
    decided = [{**row.decided, "figures": _finite(row.decided["figures"])} for row in rows]
    content = {
        "schema": SCHEMA,
        "a": a,
        "b": b,
        "counts": counts(decided),
        "decisions": decided,
        "not_in_both": list(missing),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def conclusion_of(rows: Sequence[Row]) -> tuple[dict[str, int], str]:
    """How many decisions there are of each kind, and in words."""
    decided = [row.decided for row in rows]
    return counts(decided), headline(decided)


def _tables(rows: Sequence[Row]) -> Iterator[Table]:
    for group, members in groupby(rows, key=lambda row: row.group):
        own = list(members)
        yield Table(
            group,
            (
                Column("row", tuple(row.name for row in own), "left"),
                Column("A", tuple(_side(row, "before") for row in own)),
                Column("B", tuple(_side(row, "now") for row in own)),
                Column(
                    "worse by",
                    tuple("" if row.interval is None else row.change(row.interval) for row in own),
                    "left",
                ),
                Column("n", tuple(str(row.decided["figures"].get("n", "")) for row in own)),
                Column("decision", tuple(row.decided["decision"] for row in own), "left"),
            ),
        )


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """As strict JSON has them: what is not finite is null."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _side(row: Row, name: str) -> str:
    value = row.decided["figures"].get(name)
    return "" if value is None else row.value(value)


def _relative(value: float) -> str:
    return f"{numbers.figure(100 * value, sign='+')} %"


def _points(value: float) -> str:
    return f"{numbers.figure(100 * value, sign='+')} points"


def _worse_percent(change: Interval) -> str:
    return numbers.estimate_and_limits(change, scale=100, unit=" %", sign="+")


def _worse_points(change: Interval) -> str:
    return numbers.estimate_and_limits(change, scale=100, unit=" points", sign="+")


def _worse(change: Interval) -> str:
    return numbers.estimate_and_limits(change, digits=4, sign="+")
