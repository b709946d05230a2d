"""The picture of a sweep: perplexity and accuracy against level, per SPON setting."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.reporting.arrange import Results
from pytest_sparsity.reporting.panels import (
    LINEAR_UP_TO,
    Panel,
    Point,
    Series,
    accuracy_panels,
    mean_accuracy_panel,
    perplexity_panels,
)
from pytest_sparsity.settings.options import MEAN_RESIDUAL, OFF, TRAINED
from pytest_sparsity.sweep.cell import level_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_DPI = 144
_INCHES = 10.0
_TALL, _LOW = 2.9, 2.1  # inches of the first row and of others
_TOP, _BOTTOM = 0.42, 0.3  # inches of the title and of the note
_LEGEND, _ENTRIES = 0.2, 7  # inches of a row of the legend, and what it has room for
_TITLE = 24  # characters of a panel's title
# Colours of Okabe & Ito (2008), "Color Universal Design", which readers who see colours
# differently can tell apart; the markers differ too.
_LOOK = {
    OFF: ("#D55E00", "o", ""),
    MEAN_RESIDUAL: ("#0072B2", "s", " + mean residual"),
    TRAINED: ("#009E73", "^", " + SPON"),
}
#: Where there are several weights, colours tell them apart, and markers SPON settings.
_WEIGHTS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999")
_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), "-.")  # one per method
_BARS = "Bars: 95 % interval of the paired change against dense. Dotted: dense."
_BAND = " Band: 95 % interval of dense's own accuracy."
_NO_LIMITS = " Hollow: too few data for an interval."
STYLE: dict[str, Any] = {
    "svg.hashsalt": "pytest-sparsity",  # the same ids in every run
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def draw(results: Results, model: str) -> dict[str, bytes]:
    """The picture of one model, as ``png`` and ``svg`` files.

    The same results give the same bytes.  Without any sparse configuration there is nothing
    to draw and the answer is empty.
    """
    rows = _rows(results, model)
    if not rows:
        return {}
    from matplotlib import style
    from matplotlib.figure import Figure

    # In a style context, so that the user's settings have no influence here and these none outside;
    # without pyplot, which would choose a backend for the whole process.
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in a user's names
        figure = Figure(layout="constrained")
        _compose(figure, rows, model)
        return {
            "png": _file(figure, "png", {"Software": None}),
            "svg": _file(figure, "svg", {"Date": None, "Creator": None}),
        }


def _file(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
    return stream.getvalue()


def _rows(results: Results, model: str) -> list[list[Panel]]:
    """Perplexity and mean accuracy first, then the tasks; few panels share one row."""
    mean = mean_accuracy_panel(results, model)
    first = perplexity_panels(results, model) + ([mean] if mean else [])
    tasks = accuracy_panels(results, model)
    if len(first) + len(tasks) <= _COLUMNS:
        first, tasks = first + tasks, []
    parts = (first, tasks)
    return [part[i : i + _COLUMNS] for part in parts for i in range(0, len(part), _COLUMNS)]


def _compose(figure: Figure, rows: Sequence[Sequence[Panel]], model: str) -> None:
    panels = [panel for row in rows for panel in row]
    looks = _looks(panels)
    legend = math.ceil((len(looks) + 1) / _ENTRIES)  # rows; one entry more for dense
    heights = [_TALL, *(_LOW for _ in rows[1:])]
    top = _TOP + _LEGEND * legend
    height = top + sum(heights) + _BOTTOM
    figure.set_size_inches(_INCHES, height)
    figure.set_layout_engine(
        "constrained", rect=(0, _BOTTOM / height, 1, 1 - (top + _BOTTOM) / height), hspace=0.05
    )
    grid = figure.add_gridspec(len(rows), max(map(len, rows)), height_ratios=heights)
    handles: dict[str, Any] = {}  # by label: the legend is drawn once
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            handles |= _draw_panel(axes, panel, looks)
            if j == 0 or row[j - 1].unit != panel.unit:
                axes.set_ylabel(_unit(panel))
            if i == len(rows) - 1 or j >= len(rows[i + 1]):
                axes.set_xlabel("level (share of activations zeroed)")
    title = f"{model} under activation sparsity"
    figure.text(0.5, 1 - 0.1 / height, title, size=12, weight="bold", ha="center", va="top")
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.3 / height),
        ncols=math.ceil(len(handles) / legend),
    )
    note = _note(panels)
    figure.text(0.5, 0.08 / height, note, size=8, color="0.3", ha="center", va="bottom")


def _note(panels: Sequence[Panel]) -> str:
    lines = [line for panel in panels for line in panel.series.values()]
    endless = any(point.limits is None for line in lines for point in line)
    band = any(panel.dense is not None and panel.dense.limits is not None for panel in panels)
    return _BARS + (_BAND if band else "") + (_NO_LIMITS if endless else "")


def _unit(panel: Panel) -> str:
    note = f"\nlogarithmic above {LINEAR_UP_TO:g}" if panel.logarithmic else ""
    return panel.unit + note


def _looks(panels: Sequence[Panel]) -> dict[Series, dict[str, Any]]:
    """Colour, marker, line, label and sideways shift per series, the same in every panel."""
    keys = list(dict.fromkeys(key for panel in panels for key in panel.series))
    keys.sort(key=lambda key: (key[0] != LOADED, *key[:2], list(_LOOK).index(key[2])))
    weights = list(dict.fromkeys(key[0] for key in keys))
    methods = sorted({key[1] for key in keys})
    levels = sorted({p.level for panel in panels for line in panel.series.values() for p in line})
    gap = min([0.1, *(b - a for a, b in pairwise(levels))])
    looks = {}
    for place, (stored, method, spon) in enumerate(keys):
        colour, marker, suffix = _LOOK[spon]
        if len(weights) > 1:
            colour = _WEIGHTS[weights.index(stored) % len(_WEIGHTS)]
        looks[stored, method, spon] = {
            "color": colour,
            "marker": marker,
            "linestyle": _LINES[methods.index(method) % len(_LINES)],
            "label": _name(stored, method) + suffix,
            "shift": (place - (len(keys) - 1) / 2) * gap * 0.4 / len(keys),
        }
    return looks


def _name(weights: str, method: str) -> str:
    """Weights and method in a few words: ``teal``, ``int4, teal``, ``int4``."""
    parts = [weights] if weights != LOADED else []
    parts += [method] if method != "dense" else []
    return ", ".join(parts)


def _draw_panel(
    axes: Axes, panel: Panel, looks: Mapping[Series, Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw one panel; returns what the legend shows, by label."""
    axes.set_title(_shortened(panel.title), weight="bold")
    axes.set_title(panel.remark, loc="right", size=8, color="0.3")
    handles = {
        looks[key]["label"]: _draw_series(axes, panel.series[key], **looks[key])
        for key in looks
        if key in panel.series
    }
    levels = sorted({point.level for line in panel.series.values() for point in line})
    axes.set_xticks(levels, [level_text(level) for level in levels])
    axes.margins(x=0.12)
    if panel.dense is not None:
        handles["dense"] = axes.axhline(panel.dense.value, color="black", ls=":", lw=1.3)
        if panel.dense.limits is not None:
            axes.axhspan(*panel.dense.limits, color="0.5", alpha=0.13, lw=0)
    if panel.logarithmic:
        _logarithmic(axes)
    if panel.limits is not None:
        axes.set_ylim(panel.limits)
    return handles


def _shortened(title: str) -> str:
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 3]}..."


def _draw_series(
    axes: Axes, points: Sequence[Point], *, shift: float, label: str, **look: Any
) -> Any:
    """Points joined by a line, a bar where there are limits, a hollow marker where not."""
    x = [point.level + shift for point in points]
    (line,) = axes.plot(x, [p.value for p in points], label=label, lw=1.2, ms=4.5, **look)
    for at, point in zip(x, points, strict=True):
        if point.limits is None:
            axes.plot(at, point.value, marker=look["marker"], color=look["color"], ms=4.5, mfc="w")
        else:
            low, high = point.limits
            reach = [[max(point.value - low, 0)], [max(high - point.value, 0)]]
            axes.errorbar(at, point.value, reach, color=look["color"], lw=1.2, capsize=2.2)
    return line


def _logarithmic(axes: Axes) -> None:
    """Logarithmic away from zero, where a few and a hundred percent can both be read."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("symlog", linthresh=LINEAR_UP_TO, linscale=0.6)
    ticks = [step * 10.0**power for power in range(6) for step in (1.0, 2.0, 5.0)]
    ticks = [0.0, *(tick for tick in ticks if tick >= LINEAR_UP_TO / 2)]
    axes.yaxis.set_major_locator(FixedLocator([*(-tick for tick in ticks[:0:-1]), *ticks]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
