"""Forecasts: what is known of a metric, how decisions share the run's error, what is stored."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from pytest_sparsity.core.statistics import influence
from pytest_sparsity.core.statistics.power import Design, smallest_effect
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import compare
from pytest_sparsity.sweep.forecast import Cost, Forecast, Planned
from pytest_sparsity.sweep.influences import influence_of_change, influences
from pytest_sparsity.sweep.known_spreads import BUNDLED, Known, bundled, to_json
from pytest_sparsity.sweep.past_runs import past_runs
from pytest_sparsity.sweep.regression import judge_change

SPARSE = Configuration("m", "teal", 0.5)


def numbers(seed, count=20, around=2.0):
    rng = random.Random(seed)
    return [[rng.gauss(around, 0.5) for _ in range(8)] for _ in range(count)]


def rights(seed, share, count=40):
    rng = random.Random(seed)
    return [rng.random() < share for _ in range(count)]


def test_influences_are_of_the_metrics_that_are_compared(record, task_record, configurations):
    dense, sparse, spon = configurations
    trio = [record(c, nll=numbers(s, around=a)) for c, s, a in
            ((spon, 1, 2.2), (dense, 2, 2.0), (sparse, 3, 2.6))]  # fmt: skip
    tasks = [task_record(c, rights(s, p)) for c, s, p in ((sparse, 4, 0.6), (dense, 5, 0.9))]
    for found, compared in (
        (influences(*trio), compare(*trio, seed=0)),
        (influences(*tasks, None), compare(*tasks, None, seed=0)),
    ):
        assert list(found) == [each.metric for each in compared]
        for each in compared:
            told = each.value if each.change is None else each.change
            assert found[each.metric].estimate == pytest.approx(told.estimate)
            assert abs(found[each.metric].values.sum()) < 1e-9


def unit(kind, rng):
    """An item of a task, or a prompt, as a record has it."""
    right = {"right": rng.random() < 0.6, "right_normalised": False}
    if kind == "divergence":
        return {"tokens": 9, "reasoning": {"kl": rng.random()}, "prose": {"kl": rng.random()}}
    if kind == "answer_likelihood":
        return right | {"answer": -rng.random(), "answer_tokens": 2, "chain": -9 * rng.random(),
                        "chain_tokens": 20}  # fmt: skip
    if kind == "exact_match":
        return right | {"path": [rng.randrange(2) for _ in range(5)]}
    return {"tokens": 32, "first_divergence": rng.choice([None, 0, 5, 31])}


@pytest.mark.parametrize("kind", ["divergence", "answer_likelihood", "exact_match", "generation"])
def test_influences_of_other_evaluations(record, configurations, kind):
    dense, sparse, _ = configurations
    evaluation = kind if kind == "generation" else f"{kind}:gsm8k"

    def make(configuration, seed):
        rng = random.Random(seed)
        units = [{"id": f"i{n}", **unit(kind, rng)} for n in range(12)]
        name = "prompts" if kind == "generation" else "items"
        measured = {name: units, "normalisation": "sum", "chance": 0.0}
        return record(configuration, evaluation=evaluation, measured=measured)

    now, base = make(sparse, 1), make(dense, 2)
    found = influences(now, base, None)
    for each in compare(now, base, None, seed=0):
        told = each.value if each.change is None else each.change
        assert found.pop(each.metric).estimate == pytest.approx(told.estimate)
    assert not found
    before = make(sparse, 3)
    change = judge_change(now, before, seed=0).change
    assert influence_of_change(now, before).estimate == pytest.approx(change.estimate)


def test_influences_of_a_change_are_of_what_the_gate_decides_on(record, task_record):
    pairs = [
        (record(SPARSE, nll=numbers(1, around=2.1)), record(SPARSE, nll=numbers(2))),
        (task_record(SPARSE, rights(1, 0.6)), task_record(SPARSE, rights(2, 0.8))),
    ]
    for now, before in pairs:
        change = judge_change(now, before, seed=0).change
        assert influence_of_change(now, before).estimate == pytest.approx(change.estimate)


def test_a_spread_is_that_of_one_unit():
    values = np.random.default_rng(0).normal(0.0, 0.2, 400)
    known = Known.of("kl:austen", influence(values), "here")
    assert known.spread.deviation == pytest.approx(values.std(ddof=1))
    assert not known.spread.counts
    assert Known.of("kl:austen", influence([0.5] * 8), "here") is None
    assert Known.of("kl:austen", influence([0.5]), "here") is None


def drawn(seed, units):
    values = np.random.default_rng(seed).normal(size=len(units))
    return Known.of("kl:austen", influence(values, units=units), "here")


def forecast(known, limits):
    planned = [
        Planned(Cell(Configuration("m", "teal", n / 100), "perplexity:austen"), "kl:austen",
                (30, 60), 60, limit, each)
        for n, (each, limit) in enumerate(zip(known, limits, strict=True))
    ]  # fmt: skip
    cells = [each.cell for each in planned]
    looks = dict.fromkeys(cells, (30, 60))
    return Forecast(cells, looks, dict.fromkeys(cells, Cost()), frozenset(), planned, 0.01)


def test_controls_share_the_error_of_the_run_among_its_decisions():
    same = drawn(0, range(30))
    ways = forecast([same] * 5, [0.1] * 4 + [None]).controls
    assert ways.alone.error == ways.one_look.error == 0.025
    assert ways.bonferroni.error == 0.01 / 4  # the fifth has no budget
    assert ways.holm_last.error == 0.01
    assert ways.run.error == pytest.approx(0.01, rel=0.2)  # all are one
    apart = [drawn(n, [f"{n}/{i}" for i in range(30)]) for n in range(5)]
    ways = forecast(apart, [0.1] * 5).controls
    assert ways.run.error == pytest.approx(0.01 / 5, rel=0.2)


def test_decisions_of_which_nothing_is_known_count_as_others():
    same = drawn(0, range(30))
    ways = forecast([same, same, None, None], [0.1] * 4).controls
    assert 0.0025 <= ways.run.error <= 0.005
    assert forecast([None, None], [0.1, 0.1]).controls.run.error == 0.005
    assert forecast([None], [None]).controls.run.error == 0.01


def test_a_metric_without_a_budget_is_held_against_what_it_was():
    known = Known.of("accuracy:sva", influence([1.0] * 5 + [0.0] * 95, bounds=(-1, 1)), "here")
    found = forecast([known], [None])
    (each,) = found.planned
    expected = smallest_effect(known.spread, Design((30, 60)), limit=0.05)
    assert each.effect(found.controls.alone) == expected
    assert math.isnan(forecast([None], [0.1]).planned[0].effect(found.controls.alone))
    with pytest.raises(ValueError, match=r"nothing is known of m-teal-0\.00-perplexity:austen"):
        forecast([None], [0.1]).planned[0].needed(found.controls.alone, 0.1)


def test_the_last_run_with_its_own_dense_cell_counts(tmp_path, record, configurations):
    dense, sparse, _ = configurations

    def stored(configuration, seed, code, around=2.0):
        key = {"weights": "w", "seed": 0, "code": code}
        return record(configuration, nll=numbers(seed, around=around), key=key)

    old = [stored(dense, 1, "old"), stored(sparse, 2, "old", 2.5)]
    lone = stored(sparse, 3, "new", 3.5)
    path = tmp_path / "records.jsonl"
    path.write_text("".join(f"{each.to_json()}\n" for each in (*old, lone)))
    runs = past_runs(tmp_path)
    cell = old[1].cell
    assert runs.latest(cell) == lone
    found = runs.influences(cell)["perplexity:austen"]
    assert found.estimate == influences(old[1], old[0], None)["perplexity:austen"].estimate
    with path.open("a") as stream:
        stream.write(f"{stored(dense, 4, 'new').to_json()}\n")
    assert past_runs(tmp_path).influences(cell)["perplexity:austen"].estimate > found.estimate


def test_of_one_record_the_fuller_line_counts(tmp_path, record):
    many, few = record(nll=numbers(1, 20)), record(nll=numbers(1, 10))
    (tmp_path / "records.jsonl").write_text(f"{many.to_json()}\n{few.to_json()}\n")
    assert len(past_runs(tmp_path).latest(many.cell).units) == 20


def test_without_a_folder_nothing_is_stored(tmp_path):
    assert past_runs(tmp_path / "nope").records == {}


def test_bundled_spreads_say_where_they_are_from():
    found = bundled()
    cell = Cell(Configuration("smollm2-135m", "teal", 0.5), "perplexity:austen")
    known = found.known[cell, "perplexity:austen"]
    assert found.machine in known.source
    assert len(known.influence.units) == 32
    again = influence(known.influence.values * 32)
    assert again.error == pytest.approx(known.influence.error, rel=0.01)
    task = found.known[Cell(cell.configuration, "task:sva"), "accuracy:sva"]
    assert task.counts
    assert task.influence.values.sum() == pytest.approx(0, abs=1e-9)


def test_spreads_are_read_as_they_were_written(monkeypatch, tmp_path):
    cell = Cell(SPARSE, "perplexity:austen")
    task = Cell(SPARSE, "task:sva")
    values = np.random.default_rng(1).normal(size=12)
    lost = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0]
    measured = [
        (cell, "kl:austen", influence(values)),
        (task, "accuracy:sva", influence(lost, bounds=(-1, 1))),
        (task, "accuracy:sva", influence([0.0])),  # one unit: no spread
    ]
    path = tmp_path / "spreads.json"
    path.write_text(to_json(measured, {"machine": "M", "when": "today"}))
    monkeypatch.setattr("pytest_sparsity.sweep.known_spreads.BUNDLED", path)
    found = bundled.__wrapped__().known
    assert found[cell, "kl:austen"].influence.values == pytest.approx(
        measured[0][2].values, abs=1e-3 * np.abs(measured[0][2].values).max()
    )
    assert found[task, "accuracy:sva"].influence.values == pytest.approx(measured[1][2].values)
    assert len(found) == 2


def test_spreads_of_other_units_are_refused():
    cell = Cell(SPARSE, "perplexity:austen")
    ours, theirs = ([f"{name}{n}" for n in range(5)] for name in "ab")
    both = [(cell, "kl:austen", influence([1.0, 2, 3, 4, 5], units=u)) for u in (ours, theirs)]
    with pytest.raises(ValueError, match="was not measured on the units of the cells before it"):
        to_json(both, {})


def test_the_bundled_file_is_small_and_of_this_schema():
    content = json.loads(BUNDLED.read_text())
    assert content["schema"] == 1
    assert BUNDLED.stat().st_size < 60_000
