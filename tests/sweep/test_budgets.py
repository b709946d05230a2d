"""Budgets, verdicts over them, and proposals of new ones."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.sweep import budgets
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.propose import limit, propose
from pytest_sparsity.sweep.session import BUNDLED_BUDGETS
from pytest_sparsity.sweep.verdict import Outcome, Verdict, judge

ENTRY = """
[[budget]]
model = "m"
method = "teal"
level = {level}
spon = "{spon}"
metric = "{metric}"
{side} = {limit}
"""


def write(path, *entries):
    defaults = {"level": 0.5, "spon": "off", "metric": "kl:austen", "side": "max", "limit": 0.1}
    path.write_text("schema = 1\n" + "".join(ENTRY.format(**{**defaults, **e}) for e in entries))
    return path


def test_bundled_thresholds_are_valid():
    assert list(budgets.load(BUNDLED_BUDGETS)) is not None


def test_later_files_override_entry_by_entry(tmp_path, configurations):
    first = write(tmp_path / "a.toml", {"limit": 0.1}, {"metric": "kl:jargon", "limit": 0.2})
    second = write(tmp_path / "b.toml", {"limit": 0.3})
    found = budgets.load(first, second)
    assert found.find(configurations[1], "kl:austen").limit == 0.3
    assert found.find(configurations[1], "kl:austen").origin == "b.toml"
    assert found.find(configurations[1], "kl:jargon").limit == 0.2
    assert found.find(configurations[0], "kl:austen") is None
    assert len(list(found)) == 2


def test_a_lower_level_that_may_lose_more_is_told(tmp_path):
    levels = (0.25, 0.4, 0.5)
    cells = [Cell(Configuration("m", "teal", level), "perplexity:austen") for level in levels]
    entries = [
        {"level": level, "limit": limit}
        for level, limit in zip(levels, (0.1, 0.3, 0.2), strict=True)
    ]
    said = (
        r"m-teal-0.40 may lose more of kl:austen \(0.3\) than m-teal-0.50 \(0.2\), which skips more"
    )
    with pytest.warns(SparsityWarning, match=said) as told:
        budgets.check_swept(write(tmp_path / "a.toml", *entries), cells)
    assert len(told) == 1


def test_weights(tmp_path, configurations):
    path = write(tmp_path / "a.toml", {})
    path.write_text(path.read_text() + 'weights = "wanda-0.50"\n')
    (found,) = budgets.load(path)
    assert found.configuration == replace(configurations[1], weights="wanda-0.5")
    path.write_text(path.read_text().replace("wanda-0.50", "int3"))
    with pytest.raises(SparsityError, match=r"budget 1: weights 'int3' are not known; use loaded"):
        budgets.load(path)


def test_recovery_is_a_minimum(tmp_path, configurations):
    entry = {"spon": "mean_residual", "metric": "recovery:austen", "side": "min", "limit": 0.45}
    (found,) = budgets.load(write(tmp_path / "a.toml", entry))
    assert found.is_minimum
    assert found.limit_text == ">= 0.4500"
    assert found.configuration == configurations[2]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"level": 0.25}, "m-teal-0.25 is not swept"),
        ({"spon": "trained"}, "m-teal-0.50-spon is not swept"),
        ({"metric": "kl:jargon"}, "metric 'kl:jargon' is not measured for m-teal-0.50"),
        ({"metric": "accuracy:sva"}, "metric 'accuracy:sva' is not measured"),
        ({"metric": "recovery:austen", "side": "min"}, "'recovery:austen' is not measured"),
    ],
)
def test_what_is_not_swept(tmp_path, configurations, entry, complaint):
    cells = [Cell(c, "perplexity:austen") for c in configurations]
    path = write(tmp_path / "a.toml", entry)
    with pytest.raises(SparsityError, match=complaint):
        budgets.check_swept(path, cells)


def test_what_is_swept_and_other_models(tmp_path, configurations):
    cells = [Cell(c, "perplexity:austen") for c in configurations]
    entries = [
        {},
        {"spon": "mean_residual", "metric": "recovery:austen", "side": "min", "limit": 0.4},
    ]
    budgets.check_swept(write(tmp_path / "a.toml", *entries), cells)
    others = [Cell(Configuration("other"), "perplexity:austen")]
    budgets.check_swept(write(tmp_path / "a.toml", *entries), others)


@pytest.mark.parametrize(
    ("metric", "interval", "outcome"),
    [
        ("perplexity", (0.05, 0.01, 0.09), Outcome.PASS),
        ("perplexity", (0.05, 0.01, 0.10), Outcome.PASS),
        ("perplexity", (0.05, 0.01, 0.11), Outcome.INCONCLUSIVE),
        ("perplexity", (0.2, 0.10, 0.3), Outcome.INCONCLUSIVE),
        ("perplexity", (0.2, 0.11, 0.3), Outcome.FAIL),
        ("perplexity", (0.2, math.inf, math.inf), Outcome.FAIL),
        ("perplexity", (0.2, -math.inf, math.inf), Outcome.INCONCLUSIVE),
        ("recovery", (0.6, 0.45, 0.7), Outcome.PASS),
        ("recovery", (0.6, 0.44, 0.7), Outcome.INCONCLUSIVE),
        ("recovery", (0.4, 0.3, 0.45), Outcome.INCONCLUSIVE),
        ("recovery", (0.4, 0.3, 0.44), Outcome.FAIL),
    ],
)
def test_the_whole_interval_is_held_to_the_limit(
    comparison, configurations, metric, interval, outcome
):
    if metric == "perplexity":
        one, limit, side = comparison(change=interval), 0.1, "<="
    else:
        one, limit, side = comparison("recovery:austen", None, value=interval), 0.45, ">="
    budget = Budget(configurations[1], f"{metric}:austen", limit, side == ">=", "a.toml")
    verdict = judge(one, budget)
    assert verdict.outcome is outcome
    assert f"{outcome.value}, budget {side} {limit:.4f} (a.toml)" in verdict.message
    assert f"{interval[0]:+.4f}" in verdict.message
    assert "n = 12" in verdict.message


def test_without_budget(comparison):
    verdict = judge(comparison(), None)
    assert verdict.outcome is Outcome.NO_BUDGET
    assert verdict.message.endswith("no budget")


def test_dense_accuracy_must_be_above_chance(comparison, configurations):
    dense = configurations[0]
    for refused, outcome in (("", Outcome.PASS), ("it is at chance", Outcome.REFUSED)):
        one = replace(comparison("accuracy:sva", None, dense), chance=0.5, refused=refused)
        assert judge(one, None).outcome is outcome


@pytest.mark.parametrize(
    ("metric", "change", "expected"),
    [
        ("perplexity:austen", (0.2, 0.1, 0.3), 0.33),
        ("kl:austen", (0.2, 0.1, 0.3), 0.33),
        ("accuracy:sva", (-0.1, -0.2, 0.0), 0.03),
        ("path:generation", (0.5, 0.4, 0.6), 0.7),
        ("perplexity:austen", (0.2, 0.1, math.inf), None),
    ],
)
def test_proposed_limit(comparison, metric, change, expected):
    found = limit(comparison(metric, change))
    assert found == (None if expected is None else pytest.approx(expected, abs=1.1e-3))
    if found is not None:
        assert found >= expected - 1e-9  # rounded on the lenient side


def test_proposed_limit_of_a_gain(comparison, configurations):
    one = comparison("recovery:austen", None, configurations[2], value=(0.6, 0.5, 0.7))
    assert limit(one) == pytest.approx(0.42)
    assert limit(replace(one, value=replace(one.value, low=-math.inf))) is None
    assert limit(comparison(change=None)) is None


def test_a_proposal_is_a_thresholds_file_that_passes(tmp_path, comparison, configurations):
    one = comparison()
    gain = comparison("recovery:austen", None, configurations[2], value=(0.6, 0.5, 0.7))
    weights = comparison(configuration=replace(configurations[1], weights="wanda-2:4"))
    verdicts = [Verdict(c, Outcome.NO_BUDGET) for c in (one, gain, weights)]
    path = tmp_path / "new" / "budgets.toml"
    propose(path, verdicts, {"profile": 'a "quoted" \\ name', "seed": 3}, "a cpu")
    found = budgets.load(path)
    for c in (one, gain, weights):
        budget = found.find(c.cell.configuration, c.metric)
        assert judge(c, budget).outcome is Outcome.PASS
    assert "# measured +0.1000 [+0.0500, +0.1500], n = 12" in path.read_text()
