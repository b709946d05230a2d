from __future__ import annotations

import math

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.live import cell_line, format_eta, progress_line
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.verdict import Outcome, Verdict, judge


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00"),
        (5.4, "0:05"),
        (59.7, "1:00"),
        (190, "3:10"),
        (3753, "1:02:33"),
        (None, "-:--"),
        (math.inf, "-:--"),
        (math.nan, "-:--"),
        (-1, "-:--"),
    ],
)
def test_format_eta(seconds: float | None, text: str) -> None:
    assert format_eta(seconds) == text


def test_accuracy() -> None:
    cell = Cell(Configuration("smollm2-135m", "teal", 0.5, "trained"), "task:arc_easy")
    drop = Interval(0.02, -0.035, 0.075, 200)
    verdict = Verdict(
        Comparison(cell, "accuracy:arc_easy", Interval(0.44, 0.37, 0.5, 200), drop, 0.5),
        Outcome.PASS,
    )
    assert progress_line(cell_line([verdict], 3.44, False), 12, 90, 190) == (
        "[12/90] pass          smollm2-135m-teal-0.50-spon  "
        "accuracy:arc_easy 44.0 (-2.0 [-7.5, +3.5])  3.4 s  eta 3:10"
    )


@pytest.mark.parametrize(
    ("model", "spon", "found"),
    [
        ("m", "off", "m-teal-0.50  perplexity:austen 76.4 (+82.0 % [+72.8, +91.2])"),
        ("m", "trained", "m-teal-0.50-spon  austen 55.8 (+32.8 % [+28.5, +37.1])  recovery 60 %"),
        (
            "smollm2-135m",
            "trained",
            "smollm2-135m-teal-0.50-spon  austen +32.8 % [+28.5, +37.1]  recovery 60 %",
        ),
        (
            "smollm2-135m",
            "mean_residual",
            "smollm2-135m-teal-0.50-mean_residual  austen +86.1 %  recovery -5 %",
        ),
    ],
)
def test_the_fullest_text_that_fits(fake, model: str, spon: str, found: str) -> None:
    verdicts = fake.perplexity(Configuration(model, "teal", 0.5, spon), "austen")
    assert cell_line(verdicts, 12.0, True) == f"fail          {found}  reused"


def test_dense_has_no_change(fake) -> None:
    line = cell_line(fake.perplexity(Configuration("m"), "austen"), 1.0, False)
    assert line == "reference     m-dense  perplexity:austen 42.0  1.0 s"


def test_greedy_text(fake) -> None:
    line = cell_line([fake.greedy(Configuration("m"))], 1.0, False)
    assert line == "reference     m-dense  path:generation 32.0 tokens  1.0 s"


def test_worst_outcome_wins(fake) -> None:
    verdict = judge(fake.greedy(Configuration("m")).comparison, None)
    outcomes = (Outcome.NO_BUDGET, Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL)
    for count, worst in enumerate(outcomes, 1):
        several = [Verdict(verdict.comparison, outcome) for outcome in outcomes[:count]]
        assert cell_line(several, 1.0, False).startswith(f"{worst.value:<12}  ")


def test_the_last_cell_has_no_eta() -> None:
    assert progress_line("x", 9, 9, 0.0) == "[9/9] x"
    assert progress_line("x", 9, 100, None) == "[  9/100] x  eta -:--"


@pytest.mark.parametrize(
    "model", ["m", "smollm2-135m", "m\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 40]
)
@pytest.mark.parametrize("subject", ["sva", "basic_common_knowledge", "x" * 120])
@pytest.mark.parametrize("method", ["dense", "teal"])
def test_lines_are_short_and_plain(fake, model: str, subject: str, method: str) -> None:
    configuration = Configuration(model, method, 0.5, "mean_residual")
    for verdicts in (
        fake.perplexity(configuration, subject),
        [fake.accuracy(configuration, subject)],
        [fake.greedy(configuration)],
    ):
        line = progress_line(cell_line(verdicts, 12345.6, False), 998, 999, 9 * 3600)
        assert len(line) <= 120
        assert line.isascii()
        assert line.split("  eta")[0].endswith("12345.6 s")


def test_a_long_model_name_keeps_the_end_of_the_configuration(fake) -> None:
    configuration = Configuration("m" * 80, "teal", 0.5, "trained")
    line = cell_line([fake.accuracy(configuration, "sva")], 1.0, False)
    assert "...mm" in line
    assert "mm-teal-0.50-spon  sva -3.3  1.0 s" in line
