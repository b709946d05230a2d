"""Puts verdicts in the order in which every report shows them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.options import SPON
from pytest_sparsity.sweep.cell import Cell, Configuration

if TYPE_CHECKING:  # the real imports bring numpy and scipy
    from pytest_sparsity.core.statistics import Interval
    from pytest_sparsity.sweep.comparison import Comparison
    from pytest_sparsity.sweep.skipped import Skipped
    from pytest_sparsity.sweep.verdict import Verdict

Name = TypeVar("Name")


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from.

    Attributes:
        verdicts: one per metric of every cell, the dense model's among them.
        skipped: the share of the model that was really skipped, by configuration and corpus.
        notes: remarks about methods, by name.
    """

    verdicts: Sequence[Verdict]
    skipped: Mapping[Cell, Skipped]
    notes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _comparisons(self) -> dict[tuple[Configuration, str], Comparison]:
        found = (verdict.comparison for verdict in self.verdicts)
        return {(c.cell.configuration, c.metric): c for c in found}

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order they were measured."""
        return _unique(configuration.model for configuration, _ in self._comparisons)

    def configurations(self, model: str) -> list[Configuration]:
        """Dense first, then by weights, method, level and SPON setting."""
        found = (c for c, _ in self._comparisons if c.model == model)
        return sorted(_unique(found), key=_grid_order)

    def subjects(self, model: str, metric: str) -> list[str]:
        """Corpora or tasks for which a model has ``metric``, in the order they were measured."""
        names = (name for c, name in self._comparisons if c.model == model)
        split = (name.partition(":") for name in names)
        return _unique(subject for head, _, subject in split if head == metric)

    def find(self, configuration: Configuration, metric: str) -> Comparison | None:
        """One metric of one configuration, if it was measured."""
        return self._comparisons.get((configuration, metric))

    def counts(self, configuration: Configuration | None = None) -> Counter[str]:
        """How many verdicts had each outcome, of one configuration or of all."""
        return Counter(
            verdict.outcome.value
            for verdict in self.verdicts
            if configuration in (None, verdict.comparison.cell.configuration)
        )


def label(configuration: Configuration) -> str:
    """A configuration's name without its model: ``teal-0.50-spon``."""
    return configuration.id.removeprefix(f"{configuration.model}-")


def mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Mean of estimates from separate data sets, with its interval; n is their sum.

    The distances to the limits add up as independent errors do, each side by itself
    (MOVER: Zou & Donner 2008, "Construction of confidence limits about effect measures",
    Statistics in Medicine 27:1693-1702).
    """
    count = len(intervals)
    estimate = math.fsum(i.estimate for i in intervals) / count
    below = math.hypot(*(i.estimate - i.low for i in intervals)) / count
    above = math.hypot(*(i.high - i.estimate for i in intervals)) / count
    return replace(
        intervals[0],
        estimate=estimate,
        low=estimate - below,
        high=estimate + above,
        n=sum(i.n for i in intervals),
        detectable=math.hypot(*(i.detectable for i in intervals)) / count,
        note="",
    )


def _grid_order(configuration: Configuration) -> tuple[bool, str, bool, str, float, int]:
    return (
        configuration.weights != LOADED,
        configuration.weights,
        configuration.method != "dense",
        configuration.method,
        configuration.level,
        SPON.index(configuration.spon),
    )


def _unique(names: Iterable[Name]) -> list[Name]:
    return list(dict.fromkeys(names))
