"""The picture of a history: a panel per series, its levels and the runs at which they change."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.history.series import Series
from pytest_sparsity.reporting.picture import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Panels that one picture holds; series that changed come first.
PANELS = 36
_COLUMNS = 3
_INCHES, _ROW, _TOP = 10.0, 1.9, 0.4
_DPI = 144
_TITLE = 44  # characters that a panel has room for
_BETTER, _WORSE, _LINE = "#009E73", "#D55E00", "#0072B2"  # of Okabe & Ito, as in the sweep's


def draw(series: Sequence[Series]) -> bytes:
    """A PNG file; the same series give the same bytes.

    Raises:
        ValueError: there is no series.
    """
    if not series:
        raise ValueError("there is no series to draw")
    from matplotlib import style
    from matplotlib.figure import Figure

    shown = sorted(series, key=lambda one: not one.changes)[:PANELS]
    rows = math.ceil(len(shown) / _COLUMNS)
    with style.context(["default", STYLE]):
        height = _TOP + rows * _ROW
        figure = Figure(figsize=(_INCHES, height), layout="constrained")
        figure.suptitle("History of runs: levels, and where they change", weight="bold", size=12)
        axes = figure.subplots(rows, _COLUMNS, squeeze=False)
        for place, one in zip(axes.flat, shown, strict=False):
            _panel(place, one)
        for place in axes.flat[len(shown) :]:
            place.set_axis_off()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Axes, series: Series) -> None:
    axes.set_title(_shortened(series.name), weight="bold", size=8)
    runs = range(len(series.values))
    axes.plot(runs, series.values, color=_LINE, marker="o", ms=2.5, lw=0.8)
    edges = [0, *(change.index for change in series.changes), len(series.values)]
    for start, stop in pairwise(edges):
        level = math.fsum(series.values[start:stop]) / (stop - start)
        axes.plot([start - 0.5, stop - 0.5], [level, level], color="0.3", lw=1.2)
    for change in series.changes:
        colour = _WORSE if series.worse(change) else _BETTER
        axes.axvline(change.index - 0.5, color=colour, lw=1.0, ls=(0, (4, 2)))
        text = f" {numbers.figure(100 * change.magnitude, sign='+')} %"
        top = axes.get_xaxis_transform()
        axes.text(change.index - 0.5, 0.98, text, transform=top, va="top", size=7, color=colour)
    axes.margins(x=0.03, y=0.2)
    axes.tick_params(labelsize=7)
    first, last = series.runs[0].when[:10], series.runs[-1].when[:10]
    axes.set_xticks([])
    runs_text = f"{len(series.values)} runs ({series.profile}), {first} to {last}"
    axes.set_xlabel(f"{runs_text}\n{_shortened(series.device)}", size=7)


def _shortened(text: str) -> str:
    return textwrap.shorten(text, _TITLE, placeholder=" ...")
