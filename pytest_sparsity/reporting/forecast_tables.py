"""Tables of a forecast: cells and their time, smallest effects, and the data that effects need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.arrange import label
from pytest_sparsity.reporting.columns import Column, Table
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.forecast import Control, Controls, Forecast, Planned

UNKNOWN = "?"
NONE = "none"
_IN_NATS = ("kl", "answer_nll", "chain_nll", "kl_reasoning", "kl_prose")
Write = Callable[[Planned], str]


def cells_and_time(forecast: Forecast, machine: str) -> Table:
    """Per evaluation: cells, what each look draws, and the time of all of them."""
    evaluations = list(dict.fromkeys(cell.evaluation for cell in forecast.cells))
    groups = [[c for c in forecast.cells if c.evaluation == name] for name in evaluations]
    rows = [*groups, list(forecast.cells)]
    return Table(
        f"Cells, and time on this machine ({machine}) if nothing stored is reused",
        (
            Column("evaluation", (*evaluations, "all"), "left"),
            Column("cells", tuple(str(len(row)) for row in rows)),
            Column("stored", tuple(str(len(forecast.stored.intersection(row))) for row in rows)),
            Column("looks at", (*(_looks(forecast, row) for row in groups), ""), "left"),
            Column("first look", tuple(_time([forecast.costs[c].first for c in r]) for r in rows)),
            Column("all looks", tuple(_time([forecast.costs[c].most for c in r]) for r in rows)),
        ),
    )


def controls(forecast: Forecast, known: Sequence[Planned]) -> Table:
    """Per metric what each method of control costs, and how much data halves what is found."""
    names = list(dict.fromkeys(map(_name, known)))
    rows = [[each for each in known if _name(each) == name] for name in names]
    ways = forecast.controls

    def column(header: str, way: Control) -> Column:
        return Column(header, tuple(_median(row, way) for row in rows))

    return Table(
        "Smallest effect found in 90 % of runs, by how it is decided: median of configurations",
        (
            Column("metric", tuple(names), "left"),
            column("1 look", ways.one_look),
            column("alone", ways.alone),
            column("Bonferroni", ways.bonferroni),
            column("Holm", ways.holm_last),
            column("step-down", ways.run),
            Column("halved by", tuple(_halving(row, ways.run) for row in rows)),
        ),
    )


def grouped(known: Sequence[Planned], title: str, write: Write) -> Iterator[Table]:
    """Tables with a row per configuration and a column per metric, as of a sweep's results.

    Args:
        known: what to show.
        title: of each table; ``{units}`` in it becomes documents, items or prompts.
        write: the text of a cell of the table.
    """
    groups: dict[tuple[str, str], list[Planned]] = {}
    for each in known:
        groups.setdefault((each.cell.configuration.model, _group(each)), []).append(each)
    for (model, group), own in groups.items():
        metrics = list(dict.fromkeys(each.metric for each in own))
        units = {unit_of_metric(metric) for metric in metrics}
        found = {(each.cell.configuration, each.metric): each for each in own}
        rows = list(dict.fromkeys(each.cell.configuration for each in own))
        columns = [Column("configuration", tuple(map(label, rows)), "left")]
        for metric in metrics:
            header = _header(metric, group)
            if len(units) > 1:
                header = f"{header}, {unit_of_metric(metric)}"
            cells = [found.get((row, metric)) for row in rows]
            columns.append(Column(header, tuple("" if c is None else write(c) for c in cells)))
        what = title.format(units=unit_of(own[0].cell))
        unit = f" in {units.pop()}" if len(units) == 1 else ""
        yield Table(f"{model}, {group}{unit}: {what}", tuple(columns))


def effects(ways: Controls) -> Write:
    """``0.85 | 1.3``: the smallest effect that is found of a cell alone, and in the run."""
    return lambda each: " | ".join(
        shown(each.metric, each.effect(way)) for way in (ways.alone, ways.run)
    )


def needed(ways: Controls, wanted: float) -> Write:
    """``24 | 54*``: units at the first look that find ``wanted``; a star if there are fewer."""

    def one(each: Planned, way: Control) -> str:
        found = each.needed(way, wanted)
        if found is None:
            return NONE
        return f"{found}*" if found > each.available else str(found)

    return lambda each: " | ".join(one(each, way) for way in (ways.alone, ways.run))


def unit_of(cell: Cell) -> str:
    """What a cell is measured on."""
    return {PERPLEXITY: "documents", GENERATION: "prompts"}.get(cell.kind, "items")


def unit_of_metric(metric: str) -> str:
    """In what effects of a metric are shown."""
    name = metric.partition(":")[0]
    if name in _IN_NATS:
        return "nats"
    return {"perplexity": "%", "recovery": "%", "kl_ratio": "ratio"}.get(name, "points")


def shown(metric: str, effect: float) -> str:
    """An effect in the unit of :func:`unit_of_metric`, with two digits."""
    if math.isinf(effect):
        return NONE
    value = effect if unit_of_metric(metric) in ("nats", "ratio") else 100 * effect
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _looks(forecast: Forecast, cells: Sequence[Cell]) -> str:
    """``32, 64, 96 documents``: the looks of the cell that has most of them."""
    within = set(cells)
    amounts = max((forecast.looks[cell] for cell in within), key=len)
    return f"{', '.join(map(str, amounts))} {unit_of(cells[0])}"


def _time(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    if not known:
        return UNKNOWN
    missing = len(seconds) - len(known)
    return f"{duration(sum(known))}{f' + {missing} {UNKNOWN}' if missing else ''}"


def _name(each: Planned) -> str:
    return f"gate {each.metric}" if each.gated else each.metric


def _median(row: Sequence[Planned], way: Control) -> str:
    return shown(row[0].metric, statistics.median(each.effect(way) for each in row))


def _halving(row: Sequence[Planned], way: Control) -> str:
    """``304-383``: units at the first look with which half of the effect is found."""
    halves = [(each, each.effect(way) / 2) for each in row]
    found = [each.needed(way, half) for each, half in halves if math.isfinite(half)]
    return numbers.sample_size(n for n in found if n is not None) or NONE


def _group(each: Planned) -> str:
    """What shares a table: all metrics of a corpus, one metric of all tasks."""
    if each.gated:
        return "gate"
    return each.cell.subject if each.cell.kind == PERPLEXITY else each.metric.partition(":")[0]


def _header(metric: str, group: str) -> str:
    """``kl`` in the table of a corpus, ``sva`` in that of accuracy."""
    name, _, subject = metric.partition(":")
    return {subject: name, name: subject}.get(group, metric)
