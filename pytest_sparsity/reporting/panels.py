"""What the picture of a sweep shows: numbers only, no drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.arrange import Results, mean_interval
from pytest_sparsity.sweep.cell import Configuration

if TYPE_CHECKING:
    from pytest_sparsity.core.statistics import Interval
    from pytest_sparsity.sweep.comparison import Comparison

LINEAR_UP_TO = 10.0
"""Percent of perplexity change up to which a logarithmic axis is linear."""


#: Weights, method and SPON setting: what a line of the picture is about.
Series = tuple[str, str, str]


@dataclass(frozen=True)
class Point:
    """A measured value in percent; ``limits`` of its bar are None where the data set none."""

    level: float
    value: float
    limits: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: the corpus or task.
        remark: n, and what else a reader must know.
        unit: label of the vertical axis.
        series: points by level, per (weights, method, SPON setting) in grid order.
        dense: the dense model's value, with its own interval if it has one.
        logarithmic: whether the axis is logarithmic beyond ``LINEAR_UP_TO``.
        limits: of the vertical axis; None leaves them to the drawing.
    """

    title: str
    remark: str
    unit: str
    series: Mapping[Series, Sequence[Point]]
    dense: Point | None
    logarithmic: bool = False
    limits: tuple[float, float] | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Lowest and highest value shown, bars and the dense model's band included."""
        points = [p for points in self.series.values() for p in points]
        points += [self.dense] if self.dense else []
        shown = [v for p in points for v in (p.value, *(p.limits or ()))]
        return min(shown), max(shown)


def perplexity_panels(results: Results, model: str) -> list[Panel]:
    """Relative change of perplexity against level, one panel per corpus, all on one scale."""
    panels = [
        panel
        for corpus in results.subjects(model, "perplexity")
        if (panel := _perplexity(model, corpus, _measured(results, model, f"perplexity:{corpus}")))
    ]
    if not panels:
        return []
    points = [p for panel in panels for line in panel.series.values() for p in line]
    highest = max(point.value for point in points)
    lowest = min(abs(point.value) for point in points)
    logarithmic = highest > 3 * LINEAR_UP_TO and lowest < highest / 8
    low, high = min(p.extent[0] for p in panels), max(p.extent[1] for p in panels)
    room = 0.06 * (high - low)
    # Above, equal distances on a logarithmic axis are equal factors.
    limits = (min(1.2 * low, -1.0), 1.25 * high) if logarithmic else (low - room, high + room)
    return [replace(p, logarithmic=logarithmic, limits=limits) for p in panels]


def accuracy_panels(results: Results, model: str) -> list[Panel]:
    """Accuracy against level, one panel per task; their axes span equally many points."""
    panels = [
        panel
        for task in results.subjects(model, "accuracy")
        if (panel := _accuracy(model, task, _measured(results, model, f"accuracy:{task}")))
    ]
    reach = 0.55 * max((high - low for low, high in (p.extent for p in panels)), default=0.0)
    return [replace(p, limits=(_middle(p) - reach, _middle(p) + reach)) for p in panels]


def mean_accuracy_panel(results: Results, model: str) -> Panel | None:
    """Mean accuracy over tasks at which the dense model is above chance.

    Of configurations that have all of these tasks; None if there are fewer than two tasks.
    """
    tasks = [t for t in results.subjects(model, "accuracy") if not _refused(results, model, t)]
    if len(tasks) < 2:
        return None
    found = [_measured(results, model, f"accuracy:{task}") for task in tasks]
    means = {
        configuration: _mean([each[configuration] for each in found])
        for configuration in found[0]
        if all(configuration in each for each in found)
    }
    return _accuracy(model, f"mean of {len(tasks)} tasks", means)


def _refused(results: Results, model: str, task: str) -> bool:
    """Whether the dense model is at chance at this task, so that it says nothing."""
    dense = results.find(Configuration(model), f"accuracy:{task}")
    return dense is not None and bool(dense.refused)


def _perplexity(model: str, corpus: str, found: Mapping[Configuration, Comparison]) -> Panel | None:
    points = {
        c: Point(c.level, 100 * change.estimate, _limits(change, 100))
        for c, comparison in found.items()
        if (change := comparison.change) is not None
    }
    if not points:
        return None
    dense = found.get(Configuration(model))
    value = "" if dense is None else f"dense {numbers.perplexity(dense.value.estimate)}, "
    return Panel(
        corpus,
        f"{value}n = {_size(found)} documents",
        "perplexity change (%)",
        _series(points),
        Point(0.0, 0.0, None),
    )


def _accuracy(model: str, name: str, found: Mapping[Configuration, Comparison]) -> Panel | None:
    points = {
        c: Point(c.level, 100 * comparison.value.estimate, _around(comparison.value, change))
        for c, comparison in found.items()
        if (change := comparison.change) is not None
    }
    if not points:
        return None
    dense = found.get(Configuration(model))
    reference = None
    if dense is not None:
        reference = Point(0.0, 100 * dense.value.estimate, _limits(dense.value, 100))
    return Panel(
        name,
        f"n = {_size(found)}",
        "accuracy (%)",
        _series(points),
        reference,
    )


def _mean(comparisons: Sequence[Comparison]) -> Comparison:
    changes = [c.change for c in comparisons if c.change is not None]
    return replace(
        comparisons[0],
        value=mean_interval([c.value for c in comparisons]),
        change=mean_interval(changes) if changes else None,
    )


def _middle(panel: Panel) -> float:
    return sum(panel.extent) / 2


def _measured(results: Results, model: str, metric: str) -> dict[Configuration, Comparison]:
    """What can be drawn: estimates that are numbers."""
    return {
        configuration: found
        for configuration in results.configurations(model)
        if (found := results.find(configuration, metric)) is not None
        and all(math.isfinite(i.estimate) for i in (found.value, found.change) if i is not None)
    }


def _series(points: Mapping[Configuration, Point]) -> dict[Series, list[Point]]:
    series: dict[Series, list[Point]] = {}
    for configuration, point in points.items():
        key = (configuration.weights, configuration.method, configuration.spon)
        series.setdefault(key, []).append(point)
    return series


def _limits(interval: Interval, scale: float) -> tuple[float, float] | None:
    return _finite((scale * interval.low, scale * interval.high))


def _around(value: Interval, drop: Interval) -> tuple[float, float] | None:
    """The interval of the paired change, in percent, around the configuration's own value."""
    above, below = drop.estimate - drop.low, drop.high - drop.estimate
    return _finite((100 * (value.estimate - below), 100 * (value.estimate + above)))


def _finite(limits: tuple[float, float]) -> tuple[float, float] | None:
    return limits if all(map(math.isfinite, limits)) else None


def _size(found: Mapping[Configuration, Comparison]) -> str:
    sizes: Iterable[int] = (comparison.value.n for comparison in found.values())
    return numbers.sample_size(sizes)
