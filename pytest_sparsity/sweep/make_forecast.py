"""Puts a forecast together from options, budgets and what earlier runs measured; loads no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_sparsity.evaluation import harness
from pytest_sparsity.evaluation.tasks import TASKS
from pytest_sparsity.evaluation.user_files import is_path
from pytest_sparsity.models.prepare import check_name, short_name
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import budgets as budget_files
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.budgets import Budget, Budgets
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.changes import (
    ACCURACY_TOLERANCE,
    DIVERGENCE_TOLERANCE,
    PERPLEXITY_TOLERANCE,
)
from pytest_sparsity.sweep.comparison import evaluation_of
from pytest_sparsity.sweep.forecast import Cost, Forecast, Planned
from pytest_sparsity.sweep.influences import influence_of_change
from pytest_sparsity.sweep.known_spreads import Bundled, Known
from pytest_sparsity.sweep.past_runs import PastRuns
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import judge_change
from pytest_sparsity.sweep.session import BUNDLED_BUDGETS
from pytest_sparsity.sweep.text_store import TextStore


@dataclass(frozen=True)
class Sources:
    """Where a forecast looks for what was measured, the best first.

    Attributes:
        past: earlier runs, by the name that people know their folder by.
        bundled: what comes with this package.
        machine: fingerprint of the machine that the run will be on.
    """

    past: Mapping[str, PastRuns]
    bundled: Bundled
    machine: str

    def known(self, cell: Cell, models: Sequence[str]) -> dict[str, Known]:
        """What is known of a cell, by metric.

        Args:
            cell: of the grid.
            models: as they were asked for: bundled figures are of a known name alone, not of a
                folder of that name.
        """
        for name, runs in self.past.items():
            found = {
                metric: known
                for metric, influence in runs.influences(cell).items()
                if (known := Known.of(metric, influence, name)) is not None
            }
            if found:
                return found
        if cell.configuration.model not in models:
            return {}
        return {metric: known for (of, metric), known in self.bundled.known.items() if of == cell}

    def seconds_per_unit(self, cell: Cell) -> float | None:
        """What a unit took on this machine; None where none was measured on it."""
        for runs in self.past.values():
            record = runs.latest(cell)
            if record is not None and record.key.get("target") == self.machine:
                seconds = record.cost.get("seconds")
                return None if seconds is None else float(seconds) / len(record.units)
        return None

    def stored(self, cell: Cell) -> bool:
        """Whether the run finds a record of the cell."""
        return any(runs.latest(cell) is not None for runs in list(self.past.values())[:1])


def make_forecast(settings: Settings, texts: TextStore, sources: Sources) -> Forecast:
    """The forecast of a sweep.

    Args:
        settings: of the run.
        texts: its corpora and tasks.
        sources: what was measured before.

    Raises:
        SparsityError: a model, corpus, task or budgets file cannot be had, or a method is not
            defined at any of the levels.
    """
    for model in settings.models:
        if model not in texts.models.own:
            check_name(model)
    _ = texts.calibration_corpus  # refuses one that cannot be had
    cells = grid.cells(settings, map(short_name, settings.models))
    budgets = _budgets(settings, cells)
    there = {cell: _available(settings, texts, cell) for cell in cells}
    looks = {cell: _looks(settings, cell, there[cell], bool(budgets[cell])) for cell in cells}
    planned = [
        Planned(cell, metric, looks[cell], there[cell], limit, known)
        for cell in cells
        if not cell.configuration.is_reference
        for metric, limit, known in _metrics(cell, budgets[cell], sources, settings)
    ]
    if settings.gate != "off" and settings.baseline is not None:
        planned += _gated(settings, there, sources)
    drawn = _drawn_with(looks)
    return Forecast(
        cells=cells,
        looks=looks,
        costs={cell: _cost(cell, looks[cell][0], drawn[cell], sources) for cell in cells},
        stored=frozenset(filter(sources.stored, cells)),
        planned=planned,
        error=settings.run_error,
        seed=settings.seed,
    )


def _budgets(settings: Settings, cells: Iterable[Cell]) -> dict[Cell, dict[str, Budget]]:
    """The budgets in force for cells of the grid, by cell and metric."""
    files = [BUNDLED_BUDGETS]
    if settings.overrides is not None:
        budget_files.check_swept(settings.overrides, cells)
        files.append(settings.overrides)
    loaded: Budgets = budget_files.load(*files)
    found: dict[Cell, dict[str, Budget]] = {cell: {} for cell in cells}
    for budget in loaded:
        cell = Cell(budget.configuration, evaluation_of(budget.metric))
        if cell in found and not (budget.is_minimum and budget.configuration.spon == OFF):
            found[cell][budget.metric] = budget
    return found


def _metrics(
    cell: Cell, budgets: Mapping[str, Budget], sources: Sources, settings: Settings
) -> Iterator[tuple[str, float | None, Known | None]]:
    """The metrics of a cell with their budgets, and what is known of them."""
    known = sources.known(cell, settings.models)
    for metric in dict.fromkeys([*budgets, *known]):
        yield metric, budgets[metric].limit if metric in budgets else None, known.get(metric)


def _gated(
    settings: Settings, available: Mapping[Cell, int], sources: Sources
) -> Iterator[Planned]:
    """What the gate holds against the stored run, on as many units as that has."""
    (name, ours), (_, stored) = list(sources.past.items())[:2]
    for cell, there in available.items():
        before, now = stored.latest(cell), ours.latest(cell)
        if before is None:
            continue
        most = cell.units(settings.sizes) * settings.sizes.draws
        metric, tolerance = _tolerated(cell)
        known = None
        across = settings.across is not None
        if now is not None and _differ(now, before, settings.seed, across):
            known = Known.of(metric, influence_of_change(now, before), f"{name} since the baseline")
        amounts = (min(len(before.units), most),)
        yield Planned(cell, metric, amounts, there, tolerance, known, gated=True)


def _differ(now: Record, before: Record, seed: int, across: bool) -> bool:
    """Whether two records can be compared and are not equal to the last bit."""
    try:
        return judge_change(now, before, seed=seed, across=across).change is not None
    except (ArithmeticError, KeyError, TypeError, ValueError):  # the run refuses a damaged baseline
        return False


def _tolerated(cell: Cell) -> tuple[str, float]:
    """The metric that the gate looks at, and what it tolerates."""
    if cell.kind == PERPLEXITY:
        return f"perplexity:{cell.subject}", PERPLEXITY_TOLERANCE
    if cell.kind == DIVERGENCE:
        return f"kl_reasoning:{cell.subject}", DIVERGENCE_TOLERANCE
    if cell.kind == GENERATION:
        return f"path:{GENERATION}", ACCURACY_TOLERANCE
    return f"accuracy:{cell.subject}", ACCURACY_TOLERANCE


def _looks(settings: Settings, cell: Cell, there: int, judged: bool) -> tuple[int, ...]:
    """Units at each planned look: more is drawn only where a budget may be undecided."""
    first = min(cell.units(settings.sizes), there)
    if cell.kind == GENERATION or not judged:
        return (first,)
    count = min(settings.sizes.draws, math.ceil(there / first))
    return tuple(min(first * look, there) for look in range(1, count + 1))


def _available(settings: Settings, texts: TextStore, cell: Cell) -> int:
    """At most so many units there are; what must be downloaded counts as enough."""
    if cell.kind == PERPLEXITY:
        return len(texts.evaluation_corpus(cell.subject).documents)
    if cell.kind == GENERATION:
        return len(texts.first_corpus.documents)
    name, own = cell.subject, cell.subject in texts.own_tasks
    downloaded = name in TASKS and not own and settings.data == "full"
    known = own or name in TASKS or (is_path(name) and not harness.names_file(name))
    if downloaded or (not known and (harness.installed() or name.startswith(harness.PREFIX))):
        return cell.units(settings.sizes) * settings.sizes.draws
    return len(texts.task_of(cell.evaluation).items)


def _drawn_with(looks: Mapping[Cell, tuple[int, ...]]) -> dict[Cell, int]:
    """Units that may be drawn of each cell: as many as of those that are compared with it."""
    most = {cell: amounts[-1] for cell, amounts in looks.items()}
    for cell, amounts in looks.items():
        for other in (cell.dense, cell.without_spon):
            if other in most:
                most[other] = max(most[other], amounts[-1])
    return most


def _cost(cell: Cell, first: int, most: int, sources: Sources) -> Cost:
    each = sources.seconds_per_unit(cell)
    return Cost() if each is None else Cost(each * first, each * most)
