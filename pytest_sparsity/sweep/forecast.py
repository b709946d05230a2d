"""Before a run: its cells, what they take, and what their decisions will be able to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pytest_sparsity.core.statistics.power import (
    ALONE,
    Design,
    Spread,
    shared_error,
    smallest_effect,
    units_needed,
)
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.known_spreads import Known


@dataclass(frozen=True)
class Control:
    """One way to reach a decision.

    Attributes:
        error: one-sided, of one decision.
        all_looks: whether more data are drawn while it is undecided.
    """

    error: float
    all_looks: bool = True


@dataclass(frozen=True)
class Controls:
    """The ways that are compared.

    Attributes:
        one_look: of a cell alone, at 95 %, without drawing more.
        alone: of a cell alone, at all its looks.
        bonferroni: for the run, by the number of its decisions; also Holm's first step.
        holm_last: for the run, where all others were found before.
        run: as a run decides where no other was found before, by resampling.
    """

    one_look: Control
    alone: Control
    bonferroni: Control
    holm_last: Control
    run: Control


@dataclass(frozen=True)
class Planned:
    """One metric of one cell.

    Attributes:
        cell: that measures it.
        metric: its name, as in :class:`~.metric.Comparison`.
        amounts: documents or items at each planned look.
        available: how many there are at most.
        limit: the budget or tolerance; None where there is none, and so no decision.
        known: what was measured of it before; None for nothing.
        gated: whether it is held against the stored run, not against dense.
    """

    cell: Cell
    metric: str
    amounts: tuple[int, ...]
    available: int
    limit: float | None = None
    known: Known | None = None
    gated: bool = False

    def effect(self, control: Control) -> float:
        """The smallest effect beyond the limit that is found in 90 % of runs; NaN if unknown."""
        if self.known is None:
            return math.nan
        spread = self.known.spread
        return smallest_effect(spread, self._design(control), limit=self._limit(spread))

    def needed(self, control: Control, effect: float) -> int | None:
        """Units of the first look that such an effect takes; None for none that would do.

        Raises:
            ValueError: nothing is known of the metric.
        """
        if self.known is None:
            raise ValueError(f"nothing is known of {self.cell.id}: {self.metric}")
        spread = self.known.spread
        return units_needed(spread, self._design(control), effect, limit=self._limit(spread))

    def _design(self, control: Control) -> Design:
        return Design(self.amounts if control.all_looks else self.amounts[:1], control.error)

    def _limit(self, spread: Spread) -> float:
        # Without a limit: how much worse than now.
        return spread.estimate if self.limit is None else self.limit


@dataclass(frozen=True)
class Cost:
    """What a cell takes on this machine.

    Attributes:
        first: seconds of the first look; None where it was not measured on this machine.
        most: seconds of all planned looks.
    """

    first: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Forecast:
    """What a run will measure, and what it will be able to show.

    Attributes:
        cells: of the grid.
        looks: units at each planned look, per cell.
        costs: per cell.
        stored: the cells that the report folder has records of.
        planned: every metric that is decided on or known.
        error: chance that a run with nothing wrong is red.
        seed: of the resampling.
    """

    cells: Sequence[Cell]
    looks: Mapping[Cell, tuple[int, ...]]
    costs: Mapping[Cell, Cost]
    stored: frozenset[Cell]
    planned: Sequence[Planned]
    error: float
    seed: int = 0

    @property
    def decisions(self) -> list[Planned]:
        """What makes the run red or not."""
        return [each for each in self.planned if each.limit is not None]

    @cached_property
    def controls(self) -> Controls:
        """The ways to decide, and what they allow one decision to err by."""
        each = self.error / max(len(self.decisions), 1)
        return Controls(
            one_look=Control(ALONE, all_looks=False),
            alone=Control(ALONE),
            bonferroni=Control(each),
            holm_last=Control(self.error),
            run=Control(self._shared),
        )

    @cached_property
    def _shared(self) -> float:
        """What one decision may err by, given those that share its documents.

        Decisions of which nothing is known count as independent of all others.
        """
        found = [each.known.influence for each in self.decisions if each.known is not None]
        unknown = len(self.decisions) - len(found)
        if not found:
            return self.error / max(unknown, 1)
        part = self.error * len(found) / (len(found) + unknown)
        return shared_error(found, part, seed=self.seed)
