"""What ``--sparsity-plan`` prints: cells, time, smallest effects, and data that effects need."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from pytest_sparsity.reporting import forecast_tables as tables
from pytest_sparsity.reporting.columns import Table
from pytest_sparsity.sweep.forecast import Forecast, Planned

#: Of fewer units normal theory is no guide.
_FEW = 12


def forecast_text(forecast: Forecast, wanted: float | None, machine: str, width: int = 100) -> str:
    """The whole text.

    Args:
        forecast: of the run.
        wanted: an effect to be found, in the unit of each metric; None for none in particular.
        machine: that the run will be on.
        width: columns of the terminal; wider tables are split.
    """
    known = [each for each in forecast.planned if each.known is not None]
    blocks = [
        _wrapped(_head(forecast), width),
        *_fitted([tables.cells_and_time(forecast, machine)], width),
        _wrapped(_on_time(forecast), width),
    ]
    if known:
        ways = forecast.controls
        title = "smallest effect found in 90 % of runs, alone | in the run"
        blocks += _fitted([tables.controls(forecast, known)], width)
        blocks.append(_wrapped(_on_control(forecast), width))
        blocks += _fitted(tables.grouped(known, title, tables.effects(ways)), width)
        if wanted is not None:
            title = f"{{units}} at the first look that find {wanted:g}, alone | in the run"
            blocks += _fitted(tables.grouped(known, title, tables.needed(ways, wanted)), width)
    blocks.append(_wrapped(_notes(forecast, known, wanted), width))
    return "\n\n".join(filter(None, blocks))


def _head(forecast: Forecast) -> str:
    models = ", ".join(dict.fromkeys(cell.configuration.model for cell in forecast.cells))
    return (
        f"{len(forecast.cells)} cells of {models}, {len(forecast.decisions)} decisions. "
        "Nothing was measured or written."
    )


def _on_time(forecast: Forecast) -> str:
    lines = [
        "Looks after the first are drawn only while a verdict is undecided. Stored cells are "
        "reused where weights, data, code and versions are the same. To the time comes what "
        "models and calibration take; processes (-n) share it."
    ]
    unknown = [c.id for c in forecast.cells if forecast.costs[c].first is None]
    if unknown:
        lines.append(
            f"Time is unknown for {len(unknown)} of {len(forecast.cells)} cells, which no run in "
            f"--sparsity-report or --sparsity-baseline measured on this machine: {_some(unknown)}."
        )
    return "\n".join(lines)


def _on_control(forecast: Forecast) -> str:
    return (
        "In % of perplexity and recovery, in nats of divergence and likelihood, in points of all "
        "else. 1 look, alone: one cell at 95 %, at its first look, at all of them. The others hold "
        f"for the run at all looks, red in at most {100 * forecast.error:g} % of runs with nothing "
        f"wrong. Bonferroni divides that by all {_count(forecast)}; Holm by those that it has not "
        "found yet: as Bonferroni at first, and as shown at last. Step-down, which decides, "
        "resamples what cells share; shown is a cell that alone is worse. Halved by: documents, "
        "items or prompts at the first look."
    )


def _count(forecast: Forecast) -> str:
    count = len(forecast.decisions)
    return f"{count} decisions" if count else "decisions (without budgets as if there were one)"


def _notes(forecast: Forecast, known: Sequence[Planned], wanted: float | None) -> str:
    lines = []
    if known:
        lines.append(
            "An effect is how far beyond its budget a metric truly is; without a budget, beyond "
            "what it was."
        )
        few = [
            f"{n} {tables.unit_of(each.cell)}" for each in known if (n := each.amounts[-1]) < _FEW
        ]
        if few:
            lines.append(f"Of {', '.join(dict.fromkeys(few))} figures are rough: they are too few.")
        sources = dict.fromkeys(each.known.source for each in known if each.known is not None)
        lines.append(f"Spread between documents and items: {'; '.join(sources)}.")
    if known and wanted is not None:
        lines.append(
            f"{wanted:g} is {100 * wanted:g} %, {wanted:g} nats, and {100 * wanted:g} of a hundred "
            "points. *: more than there are."
        )
    seen = {each.cell for each in known}
    blind = [c.id for c in forecast.cells if not c.configuration.is_reference and c not in seen]
    others = [e for e in forecast.decisions if e.known is None and (e.gated or e.cell in seen)]
    if blind:
        lines.append(
            f"What {len(blind)} cells can show is unknown, as nothing is stored of them: "
            f"{_some(blind)}. Measure them once, by a sweep into --sparsity-report."
        )
    if others:
        names = [f"{each.cell.configuration.id} {each.metric}" for each in others]
        lines.append(
            f"Unknown for {len(others)} other decisions, as no two documents, or no two runs that "
            f"the gate compares, differ in what is stored: {_some(names)}."
        )
    return "\n".join(lines)


def _some(names: Sequence[str]) -> str:
    first = ", ".join(names[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def _fitted(found: Iterable[Table], width: int) -> list[str]:
    return [part.text() for table in found for part in table.fit(width)]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, width, break_on_hyphens=False)
    )
