from __future__ import annotations

import math
import struct
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.arrange import Results
from pytest_sparsity.reporting.panels import (
    accuracy_panels,
    mean_accuracy_panel,
    perplexity_panels,
)
from pytest_sparsity.reporting.picture import draw

MODEL = "smollm2-135m"


def without_limits(verdict):
    comparison = verdict.comparison
    if comparison.change is None:
        return verdict
    endless = replace(comparison.change, low=-math.inf, high=math.inf)
    return replace(verdict, comparison=replace(comparison, change=endless))


# What is shown


def test_perplexity_in_percent_per_series(fake) -> None:
    panels = perplexity_panels(Results(fake.verdicts(fake.grid()), {}), MODEL)
    assert [panel.title for panel in panels] == ["austen", "factbook"]
    assert panels[0].remark == "dense 42.0, n = 64 documents"
    assert list(panels[0].series) == [
        ("loaded", "teal", "off"),
        ("loaded", "teal", "mean_residual"),
        ("loaded", "teal", "trained"),
    ]
    last = panels[0].series["loaded", "teal", "off"][-1]
    assert last.level == 0.5
    assert last.value == pytest.approx(82.0)
    assert last.limits == pytest.approx((72.8, 91.2))


def test_bars_of_accuracy_show_the_paired_change(fake) -> None:
    results = Results(fake.verdicts(fake.grid(levels=(0.5,), spon=("off",)), tasks=("sva",)), {})
    (panel,) = accuracy_panels(results, MODEL)
    (point,) = panel.series["loaded", "teal", "off"]
    assert point.value == pytest.approx(63.8)
    assert point.limits == pytest.approx((59.8, 67.8)), "4 points, not the 6 of the value itself"
    assert panel.dense is not None
    assert panel.dense.limits == pytest.approx((66, 78))


def test_uneven_limits_of_a_drop_are_turned_round(fake) -> None:
    results = fake.verdicts(fake.grid(levels=(0.5,), spon=("off",)), tasks=("sva",), corpora=())
    drop = Interval(0.08, 0.02, 0.09, 200)
    results[2] = replace(
        results[2],
        comparison=replace(results[2].comparison, change=drop, value=Interval(0.64, 0, 1, 200)),
    )
    (panel,) = accuracy_panels(Results(results, {}), MODEL)
    assert panel.series["loaded", "teal", "off"][0].limits == pytest.approx((63, 70))


def test_mean_needs_every_task(fake) -> None:
    grid = fake.grid(levels=(0.25, 0.5), spon=("off",))
    verdicts = [
        *fake.verdicts(grid, tasks=("arc_easy",), corpora=(), greedy=False),
        *fake.verdicts(grid[:2], tasks=("sva",), corpora=(), greedy=False),
    ]
    panel = mean_accuracy_panel(Results(verdicts, {}), MODEL)
    assert panel is not None
    assert panel.remark == "n = 400"
    assert [point.level for point in panel.series["loaded", "teal", "off"]] == [0.25]


def test_one_task_has_no_mean(fake) -> None:
    assert (
        mean_accuracy_panel(Results(fake.verdicts(fake.grid(), tasks=("sva",)), {}), MODEL) is None
    )


def test_all_task_panels_span_the_same_number_of_points(fake) -> None:
    panels = accuracy_panels(Results(fake.verdicts(fake.grid()), {}), MODEL)
    spans = {round(p.limits[1] - p.limits[0], 9) for p in panels if p.limits}
    assert len(panels) == 6
    assert len(spans) == 1


def test_small_and_large_changes_need_a_logarithmic_axis(fake) -> None:
    wide = Results(fake.verdicts(fake.grid()), {})
    assert all(panel.logarithmic for panel in perplexity_panels(wide, MODEL))
    narrow = Results(fake.verdicts(fake.grid(levels=(0.25, 0.4), spon=("off",))), {})
    assert not any(panel.logarithmic for panel in perplexity_panels(narrow, MODEL))


# The files


def test_files_have_the_right_type_size_and_text(fake) -> None:
    files = draw(Results(fake.verdicts(fake.grid()), {}), MODEL)
    assert sorted(files) == ["png", "svg"]
    assert files["png"].startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", files["png"][16:24])
    assert 1200 <= width <= 1600
    assert height > 600
    assert ElementTree.fromstring(files["svg"]).tag.endswith("svg")


def test_the_same_results_give_the_same_bytes(fake) -> None:
    results = Results(fake.verdicts(fake.grid(levels=(0.5,)), tasks=("sva",)), {})
    first, second = draw(results, MODEL), draw(results, MODEL)
    assert first == second
    assert b"<dc:date>" not in first["svg"]


def test_the_users_settings_are_neither_used_nor_changed(fake) -> None:
    results = Results(fake.verdicts(fake.grid(levels=(0.5,)), tasks=("sva",)), {})
    plain = draw(results, MODEL)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        before = dict(matplotlib.rcParams)
        assert draw(results, MODEL) == plain
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "case",
    [
        {"tasks": ()},
        {"corpora": ()},
        {"corpora": ("austen",), "tasks": ("sva",)},
        {"corpora": (), "tasks": ("a", "b", "c", "d")},
        {
            "corpora": ("$x^{$", "a" * 60),
            "tasks": ("_", "100 %", "\\frac", "\N{CJK UNIFIED IDEOGRAPH-6A21}"),
        },
    ],
    ids=str,
)
def test_partial_sweeps(fake, case) -> None:
    for spon in (("off",), ("off", "trained")):
        results = Results(fake.verdicts(fake.grid(levels=(0.5,), spon=spon), **case), {})
        assert draw(results, MODEL)["png"].startswith(b"\x89PNG")


def test_several_methods_and_no_dense(fake) -> None:
    grid = fake.grid(methods=("cats", "teal"))[1:]
    files = draw(Results(fake.verdicts(grid, corpora=("austen",), tasks=("sva",)), {}), MODEL)
    assert files["png"].startswith(b"\x89PNG")


def test_unlimited_and_unknown_values(fake) -> None:
    grid = fake.grid(levels=(0.25, 0.5), spon=("off",))
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=("sva",))
    endless = [without_limits(verdict) for verdict in verdicts]
    assert draw(Results(endless, {}), MODEL)["png"] != draw(Results(verdicts, {}), MODEL)["png"]
    (panel,) = perplexity_panels(Results(endless, {}), MODEL)
    assert [point.limits for point in panel.series["loaded", "teal", "off"]] == [None, None]
    unknown = [
        replace(v, comparison=replace(v.comparison, value=Interval(math.nan, -1, 1, 3)))
        for v in verdicts
    ]
    assert draw(Results(unknown, {}), MODEL) == {}


def test_nothing_to_draw(fake) -> None:
    assert draw(Results(fake.verdicts(fake.grid(levels=())), {}), MODEL) == {}
    assert draw(Results([], {}), MODEL) == {}


def test_no_heavy_import_and_no_backend_chosen() -> None:
    code = (
        "import sys\n"
        "from pytest_sparsity.reporting import live, picture, summary, table\n"
        "heavy = {'numpy', 'scipy', 'matplotlib', 'tabulate', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
