"""The figures of docs/findings.md: damage against sparsity, hot and cold neurons, their skew.

Every function takes plain data as the findings hold them, and gives the file's bytes; the same
data give the same bytes.  A value with its limits is ``{"estimate", "low", "high"}``, a limit that
the data do not set is None.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_sparsity.claims.question_answers import FAMILIES
from pytest_sparsity.methods.neurons.hot_set import HOT
from pytest_sparsity.methods.neurons.report import CURVE, NeuronReport
from pytest_sparsity.reporting.picture import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Value = Mapping[str, Any]

_INCHES = 10.0
_LOWEST, _HIGHEST = -60.0, 130.0  # percent; bars of a few items only would hide the rest
# Of Okabe & Ito, as in the sweep's picture; the markers differ too.
_LOOKS = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"))


def loss_figure(model: str, points: Sequence[Value], text: Sequence[Value]) -> bytes:
    """Share lost against achieved sparsity: a panel per family of tasks, and one of text.

    Args:
        model: for the title.
        points: per method, level and family ``method``, ``achieved``, ``family`` and ``lost``.
        text: per method and level ``method``, ``achieved``, ``lost`` and ``corpus``.
    """

    def compose(figure: Figure) -> None:
        methods = list(dict.fromkeys(point["method"] for point in (*points, *text)))
        panels = [family for family in FAMILIES if any(p["family"] == family for p in points)]
        axes = figure.subplots(1, len(panels) + 1, sharey=True, squeeze=False)[0]
        for place, family in zip(axes, panels, strict=False):
            own = [point for point in points if point["family"] == family]
            _lines(place, family, own, methods)
        _lines(axes[-1], f"text ({text[0]['corpus']})" if text else "text", text, methods)
        axes[0].set_ylabel("share lost (%)")
        low, high = axes[0].get_ylim()
        axes[0].set_ylim(max(low, _LOWEST), min(high, _HIGHEST))
        figure.supxlabel("share of weights skipped (%)", size=9)
        title = f"{model}: what is lost at which sparsity"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11)  # beside the legend
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(methods))

    return _drawn(compose, (_INCHES, 3.1))


def neuron_figure(model: str, methods: Sequence[Value], dense: Value, corpus: str) -> bytes:
    """What neurons cost that are left out in several ways, the same number each time.

    Args:
        model: for the title.
        methods: per method ``method``, ``increase`` (of the negative log-likelihood), ``kl`` and
            ``accuracy`` (mean over reasoning tasks; None if none can be used).
        dense: ``accuracy`` of the dense model, and ``chance``; None where there is none.
        corpus: of ``increase`` and ``kl``.
    """

    def compose(figure: Figure) -> None:
        panels = [
            ("increase", f"log-perplexity, {corpus} (nats)", 1.0),
            ("kl", f"KL from dense, {corpus} (nats)", 1.0),
        ]
        if dense["accuracy"] is not None:
            panels.append(("accuracy", "reasoning accuracy (%)", 100.0))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for place, (name, title, scale) in zip(axes, panels, strict=True):
            for row, method in enumerate(methods):
                colour, marker = _LOOKS[row % len(_LOOKS)]
                _dot(place, method[name], row, scale, colour, marker)
            place.set_title(title, weight="bold")
            place.grid(axis="x")
            place.grid(visible=False, axis="y")
        for place in axes[:2]:
            _logarithmic(place)
        if dense["accuracy"] is not None:
            axes[-1].axvline(100 * dense["accuracy"]["estimate"], color="black", ls=":", lw=1.3)
            axes[-1].axvline(100 * dense["chance"], color="0.5", ls="--", lw=1.0)
            axes[-1].set_xlabel("dotted: dense; dashed: guessing", size=8)
        axes[0].set_yticks(range(len(methods)), [method["method"] for method in methods])
        axes[0].invert_yaxis()
        level = methods[0]["level"]
        title = f"{model}: {100 * level:g} % of the neurons of every layer left out"
        figure.suptitle(title, weight="bold", size=11)

    return _drawn(compose, (_INCHES, 1.2 + 0.32 * len(methods)))


def skew_figure(reports: Sequence[NeuronReport]) -> bytes:
    """How unevenly activations are spread over neurons: a panel per model, a line per text."""

    def compose(figure: Figure) -> None:
        models = list(dict.fromkeys(report.model for report in reports))
        axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for place, model in zip(axes, models, strict=True):
            own = [report for report in reports if report.model == model]
            for report, (colour, marker) in zip(own, _cycle(len(own)), strict=True):
                y = [100 * share for share in report.model_wide.curve]
                place.plot([100 * x for x in CURVE], y, color=colour, label=report.corpus, lw=1.3)
                hot = 100 * report.model_wide.hot_share
                place.plot(hot, 100 * HOT, color=colour, marker=marker, ms=5)
            place.plot([0, 100], [0, 100], color="black", ls=":", lw=1.0, label="all equal")
            place.axhline(100 * HOT, color="0.6", lw=0.8)
            place.set_title(model, weight="bold")
            place.set_xlabel("most active neurons (%)")
            place.legend(loc="lower right", fontsize=8)
        axes[0].set_ylabel("share of activations (%)")

    models = len({report.model for report in reports})
    return _drawn(compose, (min(_INCHES, 4.2 * models), 3.4))


def _lines(axes: Axes, title: str, points: Sequence[Value], methods: Sequence[str]) -> None:
    for method, (colour, marker) in zip(methods, _cycle(len(methods)), strict=True):
        own = sorted((p for p in points if p["method"] == method), key=lambda p: p["achieved"])
        x = [100 * point["achieved"] for point in own]
        y = [100 * point["lost"]["estimate"] for point in own]
        axes.plot(x, y, color=colour, marker=marker, ms=4.5, lw=1.2, label=method)
        for at, point in zip(x, own, strict=True):
            _bar(axes, at, point["lost"], 100.0, colour)
    axes.axhline(0, color="black", ls=":", lw=1.0)
    axes.set_title(title, weight="bold")


def _bar(axes: Axes, x: float, value: Value, scale: float, colour: str) -> None:
    if value["low"] is not None and value["high"] is not None:
        axes.vlines(x, scale * value["low"], scale * value["high"], color=colour, lw=1.1)


def _dot(axes: Axes, value: Value | None, row: int, scale: float, colour: str, marker: str) -> None:
    if value is None:
        return
    axes.plot(scale * value["estimate"], row, color=colour, marker=marker, ms=5.5, ls="")
    if value["low"] is not None and value["high"] is not None:
        axes.hlines(row, scale * value["low"], scale * value["high"], color=colour, lw=1.3)


def _logarithmic(axes: Axes) -> None:
    """Logarithmic from a tenth on, so that small and ruinous damage can both be read."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("symlog", linthresh=0.1, linscale=0.5)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.1, 0.3, 1, 3, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _cycle(count: int) -> Iterable[tuple[str, str]]:
    return [_LOOKS[place % len(_LOOKS)] for place in range(count)]


def _drawn(compose: Callable[[Figure], None], inches: tuple[float, float]) -> bytes:
    from matplotlib import style
    from matplotlib.figure import Figure

    metadata = {"Date": None, "Creator": None}  # they would differ from run to run
    with style.context(["default", STYLE]):
        figure = Figure(figsize=inches, layout="constrained")
        compose(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata=metadata)
    return stream.getvalue()
