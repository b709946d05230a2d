"""ci/prove_verdicts: values are kept, runs drawn together and decided as the package decides."""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import judge_change

CI = Path(__file__).parents[2] / "ci"
FOLDERS = [str(CI / "prove_verdicts"), str(CI / "prove_gate")]
sys.path.extend(FOLDERS)
judging, populations, runs, scenarios, values, variants, verdict_page = map(
    import_module,
    ("judging", "populations", "runs", "scenarios", "values", "variants", "verdict_page"),
)
for folder in FOLDERS:
    sys.path.remove(folder)

TOKENS = 255
State = judging.State


def documents(name, effect=0.0, spread=0.01, units=200, seed=0):
    """Documents of which the second model has ``effect`` more nats per token."""
    rng = np.random.default_rng(seed)
    weights = np.full(units, float(TOKENS))
    before = weights * rng.normal(3.5, 0.5, units)
    damage = weights * (effect + spread * rng.normal(size=units))
    return populations.Population(
        id=name,
        cell=name,
        evaluation="perplexity:drawn",
        damage=damage,
        weights=weights,
        limit=math.log1p(0.005),
        relative=True,
        bounds=None,
        equal=np.zeros(units, dtype=bool),
        now=before + damage,
        before=before,
    )


def items(name, lost=0, won=0, units=100):
    """Items of which so many are lost and won; half of all are right before."""
    before = (np.arange(units) < units // 2).astype(float)
    now = before.copy()
    now[:lost] -= 1
    now[units // 2 : units // 2 + won] += 1
    return populations.Population(
        id=name,
        cell=name,
        evaluation="task:drawn",
        damage=before - now,
        weights=np.ones(units),
        limit=0.01,
        relative=False,
        bounds=(-1.0, 1.0),
        equal=before == now,
        now=now,
        before=before,
    )


def records(population):
    """The same two models as records of the sweep."""
    cell = Cell(Configuration("drawn", "teal", 0.5), population.evaluation)

    def record(side):
        if population.kind == "perplexity":
            units = [
                {"id": str(i), "tokens": TOKENS, "log_likelihoods": [-float(nll)]}
                for i, nll in enumerate(side)
            ]
            return Record(cell, {}, {"documents": units}, {}, "")
        units = [{"id": str(i), "right": bool(right)} for i, right in enumerate(side)]
        return Record(cell, {}, {"items": units, "normalisation": "sum"}, {}, "")

    return record(population.now), record(population.before)


@pytest.mark.parametrize(
    "population",
    [
        documents("fine", 0.0, units=32),
        documents("worse", 0.02, units=32),
        documents("undecided", 0.006, units=32),
        items("one lost", lost=1),
        items("many lost", lost=20, won=2),
    ],
    ids=lambda population: population.id,
)
def test_a_decision_is_that_of_the_package(population):
    theirs = judge_change(*records(population), seed=0)
    seen = np.arange(population.units)
    rule = judging.Rule(decisions=1, error=0.5, resamples=10_000)
    (ours,) = judging.judge([population], seen, [population.units], rule, "drawn")
    names = {State.PASS: "ok", State.RED: "regressed", State.INCONCLUSIVE: "inconclusive"}
    assert names[ours.once] == theirs.decision.value
    interval = judging.interval(population, seen, rule, 1)
    through = math.expm1 if population.relative else float
    assert through(interval.low) == pytest.approx(theirs.change.low, abs=1e-9)
    assert through(interval.high) == pytest.approx(theirs.change.high, abs=1e-9)


def simulated(cells, decisions=0, runs_=range(40)):
    rule = judging.Rule(decisions or len(cells))
    return runs.simulate(cells, runs.GATE, runs=runs_, rule=rule)


def test_what_is_right_is_not_red_and_what_is_wrong_is():
    fine = [documents(f"fine {seed}", seed=seed) for seed in range(3)]
    found = simulated(fine)
    assert found.red["ours"] == 0
    assert found.runs == 40
    found = simulated([*fine, documents("worse", 0.03, seed=9)], decisions=36)
    assert found.red["ours"] == 40
    assert found.states["ours"]["worse"] == {"red": 40}
    assert "red" not in found.states["ours"]["fine 0"]


def test_what_stands_out_alone_is_suspect_not_red():
    """An effect that an interval of 95 % just sees does not hold for a run of a hundred."""
    found = simulated([documents("worse", 0.011)], decisions=100)
    assert found.marked > 20
    assert found.red["ours"] < found.red["95 % at one look"]


@pytest.mark.slow
def test_a_budget_at_the_truth_is_seldom_passed_however_often_one_looks():
    cells = [documents("drawn", 0.3, 0.1).at_its_limit()]
    amounts = {"perplexity": (32, 64, 96)}
    found = runs.simulate(cells, amounts, runs=range(200))
    ours, each = found.of("ours"), found.of("95 % at each look")
    assert ours["pass"] <= 12  # 2.5 % of 200 is 5
    assert ours["pass"] < each["pass"]
    assert ours["red"] + ours["suspect"] < each["red"]


def test_equal_to_the_last_bit_is_no_matter_of_statistics():
    same = items("same")
    found = simulated([same])
    assert found.states["ours"]["same"] == {"pass": 40}
    assert not found.marked


def test_cells_of_a_corpus_are_drawn_together_and_runs_are_reproducible():
    one, two = documents("one", 0.007), documents("two", 0.007)
    found = simulated([one, two])
    assert found.states["ours"]["one"] == found.states["ours"]["two"]
    assert simulated([one, two]).to_json() == found.to_json()
    assert simulated([one, two], runs_=range(40, 80)).to_json() != found.to_json()


def test_parts_add_up_and_survive_json():
    cells = [documents("one", 0.007)]
    whole = simulated(cells)
    parts = runs.Counted()
    for part in (range(20), range(20, 40)):
        content = json.loads(json.dumps(simulated(cells, runs_=part).to_json()))
        parts.add(runs.Counted.from_json(content))
    assert parts == whole


def test_a_loss_is_made_exact():
    worse = documents("drawn", 0.004).worse_by(0.02)
    assert worse.truth == pytest.approx(math.log1p(0.02))
    lost = items("drawn", units=100).with_lost(0.05, seed=0)
    assert lost.truth == pytest.approx(0.05)
    assert lost.before.sum() - lost.now.sum() == 5
    assert (lost.now >= 0).all()


def test_values_are_kept_and_a_cut_line_is_measured_again(tmp_path):
    file = tmp_path / "measured.jsonl"
    cell = Cell(Configuration("drawn"), "task:sva")
    items_ = [{"id": str(i), "right": i % 2 == 0} for i in range(4)]
    record = Record(cell, {}, {"items": items_, "normalisation": "sum"}, {}, "")
    one = values.of_record("base", record)
    assert one.columns == {"right": [1, 0, 1, 0]}
    assert one.units == 4
    values.add(file, one)
    file.write_text(file.read_text() + '{"variant": "cut')
    other = values.of_record("again", record)
    values.add(file, other)
    assert values.read(file) == {one.key: one, other.key: other}
    assert one.marks == other.marks


@pytest.mark.slow
def test_what_is_kept_is_whole():
    """Every scenario can be drawn from the values that are kept with the code."""
    known = values.read(CI / "prove_verdicts" / "measured.jsonl")
    for scenario in scenarios.SCENARIOS:
        made = scenario.made(known)
        assert made, scenario.name
        found = runs.simulate(made, scenario.amounts, runs=range(1))
        assert found.of("ours").total() == len(made)


def test_sections_of_other_commands_stay():
    marked = "<!-- power: begin -->\n| their | table |\n<!-- power: end -->"
    text = verdict_page.page({}, {"none": runs.Counted(runs=2000)}, marked)
    assert marked in text
    assert "2,000 runs" in text
