from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.arrange import Results
from pytest_sparsity.reporting.columns import Column, Table, escape
from pytest_sparsity.reporting.table import problems, tables, terminal_tables
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.skipped import Skipped
from pytest_sparsity.sweep.verdict import Outcome, judge


def test_whole_report(fake) -> None:
    grid = fake.grid("tiny", levels=(0.5,), spon=("off", "trained"))
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=("arc_easy", "sva"))
    assert (
        terminal_tables(verdicts, fake.skipped(grid))
        == """\
tiny: Perplexity on austen, n = 64 documents
configuration      zeroed    perplexity  change                     KL  recovery
---------------  --------  ------------  ----------------------  -----  -------------
dense               0.0 %          42.0
teal-0.50          49.8 %          76.4  +82.0 % [+72.8, +91.2]  0.273
teal-0.50-spon     49.8 %          55.8  +32.8 % [+28.5, +37.1]  0.109  60 % [56, 64]

tiny: Accuracy in percent, change in points
configuration    arc_easy                    sva
---------------  --------------------------  --------------------------
                 n = 200                     n = 200
dense            72.0                        72.0
teal-0.50        63.8  -8.2 [-12.2, -4.2] *  63.8  -8.2 [-12.2, -4.2] *
teal-0.50-spon   68.7  -3.3 [-7.3, +0.7]     68.7  -3.3 [-7.3, +0.7]

tiny: Same tokens as dense: next token, and mean greedy run
configuration    top-1, austen        greedy tokens of 32
---------------  -------------------  ---------------------
                 n = 64               n = 24
teal-0.50        74.5 % [72.5, 76.5]  5.8 [2.8, 8.8]
teal-0.50-spon   86.8 % [84.8, 88.8]  21.5 [18.5, 24.5]

tiny: Verdicts
configuration      pass    fail    inconclusive    no budget
---------------  ------  ------  --------------  -----------
teal-0.50             0       1               2            3
teal-0.50-spon        0       1               2            4

Changes: against dense on the same data, [95 % interval]; one that holds 0 shows no change.
KL: nats per token. Recovery: share of the loss that SPON undoes. *: McNemar p < 0.05.
n = a-b: rows near a budget took more data; dense stands beside each on the data of that row.

tiny-teal-0.50: perplexity:austen +0.8200 [+0.7280, +0.9120] (n = 64, smallest visible effect
    0.1380): fail, budget <= 0.2000 (budgets.toml)
tiny-teal-0.50-spon: perplexity:austen +0.3280 [+0.2852, +0.3708] (n = 64, smallest visible effect
    0.0642): fail, budget <= 0.2000 (budgets.toml)
tiny-teal-0.50: accuracy:arc_easy +0.0820 [+0.0420, +0.1220] (n = 200, smallest visible effect
    0.0600), McNemar p = 0.03: inconclusive, budget <= 0.0500 (budgets.toml)
tiny-teal-0.50: accuracy:sva +0.0820 [+0.0420, +0.1220] (n = 200, smallest visible effect 0.0600),
    McNemar p = 0.03: inconclusive, budget <= 0.0500 (budgets.toml)
tiny-teal-0.50-spon: accuracy:arc_easy +0.0328 [-0.0072, +0.0728] (n = 200, smallest visible effect
    0.0600), McNemar p = 0.4: inconclusive, budget <= 0.0500 (budgets.toml)
tiny-teal-0.50-spon: accuracy:sva +0.0328 [-0.0072, +0.0728] (n = 200, smallest visible effect
    0.0600), McNemar p = 0.4: inconclusive, budget <= 0.0500 (budgets.toml)"""
    )


def test_dense_stands_beside_rows_of_more_data(fake) -> None:
    """Dense 20.6 above, sparse 20.5 and +1.1 % is no contradiction: dense had 20.3 there."""
    dense, sparse = fake.grid("tiny", levels=(0.5,), spon=("off",))
    text, task = Cell(sparse, "perplexity:austen"), Cell(sparse, "task:sva")
    found = [
        Comparison(Cell(dense, text.evaluation), "perplexity:austen", fake.interval(20.6, 1, 96)),
        Comparison(
            text,
            "perplexity:austen",
            fake.interval(20.5, 1, 32),
            fake.interval(0.011, 0.01, 32),
            dense=20.3,
        ),
        Comparison(Cell(dense, "task:sva"), "accuracy:sva", fake.interval(0.72, 0.1, 300)),
        Comparison(
            task,
            "accuracy:sva",
            fake.interval(0.7, 0.1, 100),
            fake.interval(0.05, 0.1, 100),
            dense=0.75,
        ),
    ]
    text = terminal_tables([judge(each, None) for each in found], {})
    assert "Perplexity on austen, n = 32-96 documents" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("dense", "teal"))]
    assert rows[:2] == [
        ["dense", "96", "20.6"],
        ["teal-0.50", "32", "20.3", "20.5", "+1.1", "%", "[+0.1,", "+2.1]"],
    ]
    assert "70.0  -5.0 [-15.0, +5.0] (dense 75.0, n = 100)" in text
    assert "72.0 (n = 300)" in text
    alike = [replace(each, value=replace(each.value, n=9)) for each in found]
    assert "dense 75.0" not in terminal_tables([judge(each, None) for each in alike], {})


def test_fits_the_terminal_whole(fake) -> None:
    grid = fake.grid()
    text = terminal_tables(fake.verdicts(grid), fake.skipped(grid), width=100)
    assert max(map(len, text.splitlines())) <= 100
    for word in (*fake.tasks, "austen", "factbook", "recovery", "teal-0.40-mean_residual"):
        assert word in text


def test_what_predictors_read_is_taken_off_in_a_column_of_its_own(fake) -> None:
    grid = fake.grid("tiny", methods=("powerinfer", "hot_only"), levels=(0.5,), spon=("off",))
    predicted, fixed = (Cell(c, "perplexity:austen") for c in grid[1:])
    skipped = {predicted: Skipped(0.331, 0.294, 0.497), fixed: Skipped(0.333, 0.333, 0.5)}
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=())
    text = terminal_tables(verdicts, skipped, {"hot_only": "takes their hot set"})
    (header,) = {line.split("perplexity")[0] for line in text.splitlines() if " zeroed " in line}
    assert header.split() == ["configuration", "neurons", "zeroed", "net"]
    (row,) = {tuple(line.split()[:7]) for line in text.splitlines() if "33.1 %" in line}
    assert row == ("powerinfer-0.50", "49.7", "%", "33.1", "%", "29.4", "%")
    assert "Net: weights zeroed, less those read to decide which (predictors)." in text
    assert "hot_only: takes their hot set." in text
    plain = terminal_tables(verdicts, {fixed: skipped[fixed]})
    assert "net" not in plain
    assert "Net:" not in plain


def test_every_corpus_shows_what_was_skipped_on_it(fake) -> None:
    grid = fake.grid("tiny", levels=(0.5,), spon=("off",))
    text = terminal_tables(fake.verdicts(grid, tasks=(), greedy=False), fake.skipped(grid))
    rows = [line.split()[1] for line in text.splitlines() if line.startswith("teal-0.50 ")]
    assert rows[:2] == ["49.8", "48.8"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_split_tables_keep_every_column_once_and_repeat_the_names(width: int) -> None:
    names = Column("configuration", ("dense", "teal-0.50-mean_residual"), "left")
    rest = tuple(Column(f"c{i}", ("1" * 17, "2" * 17)) for i in range(7))
    parts = list(Table("T", (names, *rest)).fit(width))
    assert all(part.columns[0] == names for part in parts)
    assert tuple(c for part in parts for c in part.columns[1:]) == rest
    assert [part.title for part in parts] == ["T"] + ["T (continued)"] * (len(parts) - 1)
    assert max(len(line) for part in parts for line in part.text().splitlines()) <= width


def test_a_column_wider_than_the_terminal_stands_alone() -> None:
    names = Column("configuration", ("dense",), "left")
    wide, small = Column("wide", ("x" * 90,)), Column("small", ("1",))
    parts = list(Table("T", (names, wide, small)).fit(50))
    assert [part.columns for part in parts] == [(names, wide), (names, small)]


def test_markdown_of_one_table(fake) -> None:
    grid = fake.grid("tiny", levels=(0.5,), spon=("off",))
    results = Results(fake.verdicts(grid, corpora=(), tasks=("arc|easy",), greedy=False), {})
    accuracy, _ = tables(results, "tiny")
    assert (
        accuracy.markdown()
        == """\
### Accuracy in percent, change in points

| configuration   | arc\\|easy                  |
|:----------------|:---------------------------|
|                 | n = 200                    |
| dense           | 72.0                       |
| teal-0.50       | 63.8 -8.2 [-12.2, -4.2] \\* |"""
    )


def test_only_what_was_measured_is_shown(fake) -> None:
    grid = fake.grid(spon=("off",))
    only_tasks = terminal_tables(fake.verdicts(grid, corpora=(), greedy=False), {})
    assert "Accuracy" in only_tasks
    assert "Perplexity" not in only_tasks
    assert "Same tokens" not in only_tasks
    only_perplexity = terminal_tables(fake.verdicts(grid, tasks=(), greedy=False), {})
    assert "Accuracy in" not in only_perplexity
    assert "recovery" not in only_perplexity, "no SPON, no recovery column"
    assert "zeroed" not in only_perplexity, "unknown sparsity, no column"


def test_the_dense_model_alone_has_no_verdicts(fake) -> None:
    text = terminal_tables(fake.verdicts(fake.grid(levels=())), {})
    assert "dense" in text
    assert "Verdicts" not in text
    assert "Same tokens" not in text


def test_nothing_measured() -> None:
    assert terminal_tables([], {}) == "Nothing was measured."


def test_several_models_have_tables_of_their_own(fake) -> None:
    grid = fake.grid("one", levels=(0.5,)) + fake.grid("two", levels=(0.25,))
    text = terminal_tables(fake.verdicts(grid, corpora=("austen",)), {})
    first, second = text.split("two: Perplexity on austen")
    assert "teal-0.50" in first
    assert "teal-0.25" not in first
    assert "teal-0.25" in second


def test_growing_samples_show_their_range(fake) -> None:
    grid = fake.grid(levels=(0.5,), spon=("off",))
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=("sva",), greedy=False)
    verdicts = [
        replace(v, comparison=replace(c, value=replace(c.value, n=2 * c.value.n)))
        if (c := v.comparison).change is not None
        else v
        for v in verdicts
    ]
    text = terminal_tables(verdicts, {})
    assert "n = 64-128 documents" in text
    assert "n = 200-400" in text


def test_unlimited_intervals(fake) -> None:
    cell = Cell(Configuration("tiny", "teal", 0.5, "trained"), "perplexity:austen")
    endless = Interval(0.3, -math.inf, math.inf, 1)
    found = [
        judge(Comparison(cell, "perplexity:austen", endless, endless), None),
        judge(Comparison(cell, "recovery:austen", replace(endless, estimate=math.nan)), None),
    ]
    text = terminal_tables(found, {})
    assert "+30.0 % [-inf, +inf]" in text
    assert "n/a" in text


def test_failing_verdicts_come_first_and_no_pass_is_listed(fake) -> None:
    verdicts = fake.verdicts(fake.grid())
    found = [verdict.outcome for verdict in problems(verdicts)]
    assert set(found) == {Outcome.FAIL, Outcome.INCONCLUSIVE}
    assert found == sorted(found, key=[Outcome.FAIL, Outcome.INCONCLUSIVE].index)
    text = " ".join(terminal_tables(verdicts, {}).split())
    assert all(v.message in text for v in verdicts if v.outcome in found)
    assert not any(v.message in text for v in verdicts if v.outcome is Outcome.PASS)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("*bold* `code` <b>", r"\*bold\* \`code\` \<b>"),
        ("mean_residual", "mean_residual"),
        ("_slanted_ x", r"\_slanted\_ x"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped
