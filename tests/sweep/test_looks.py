"""A verdict is spoken at a planned look, over the data of that look, whoever drew more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.sweep.budgets import Budget, Budgets
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.verdict import Outcome

SPARSE = Configuration("tiny-random", "teal", 0.5)
CELL = Cell(SPARSE, "perplexity:austen")
METRIC = "perplexity:austen"


@pytest.fixture
def session(settings, tmp_path, sparsity_cache):
    chosen = replace(
        settings,
        models=("tiny-random",),
        report=tmp_path,
        cache=sparsity_cache,
        dtype="float32",
        budgets=None,
    )
    return SweepSession(chosen)


def limited(session, limit):
    session.budgets = Budgets([Budget(SPARSE, METRIC, limit, False, "test")])


def told(verdicts):
    return [(v.comparison.metric, v.outcome, v.look, v.comparison.value) for v in verdicts]


def test_what_a_neighbour_draws_changes_no_verdict(session):
    """The same cell with SPON draws more of it; line, summary and a second run stay as they are."""
    limited(session, 5.0)
    spoken = session.judge(CELL)
    session.record(CELL, 2)
    session.record(CELL.dense, 2)
    assert len(session.known(CELL).units) == 24
    assert spoken[0].comparison.change.n == 12
    again = SweepSession(session.settings)
    again.budgets = session.budgets
    for found in (session.judge(CELL), session.summary([CELL]), again.summary([CELL])):
        assert told(found) == told(spoken)


def test_looks_are_planned_where_a_budget_may_be_undecided(session):
    assert session.looks(CELL) == 1
    limited(session, 5.0)
    assert session.looks(CELL) == session.settings.sizes.draws == 2
    assert session.looks(CELL.dense) == 1
    assert session.looks(Cell(SPARSE, "generation")) == 1
    verdict = session.judge(CELL)[0]
    assert (verdict.look, verdict.comparison.change.looks) == (1, 2)
    once = session.compare(CELL)[0].change
    two = verdict.comparison.change
    assert two.low < once.low < once.high < two.high


def test_what_stands_out_alone_draws_more_and_is_suspect(session):
    change = session.compare(CELL)[0].change
    limited(session, change.low - 3 * (change.high - change.low))
    (verdict, *_) = session.judge(CELL)
    assert (verdict.outcome, verdict.look) == (Outcome.FAIL, 1)
    (verdict, *_) = session.judge(CELL, level=0.0)  # nothing is red by itself
    assert (verdict.outcome, verdict.look) == (Outcome.SUSPECT, 2)
    assert "suspect, budget <= " in verdict.message
    assert "alone" in verdict.message


def test_when_the_run_is_over_a_suspect_holds_or_does_not(session):
    change = session.compare(CELL)[0].change
    limited(session, change.low - 3 * (change.high - change.low))
    (verdict, *_) = session.judge(CELL, level=0.0)
    held = verdict.for_the_run(0.004, 0.01)
    assert (held.outcome, held.p_run) == (Outcome.FAIL, 0.004)
    assert held.message.endswith("p = 0.004 for the run")
    assert verdict.for_the_run(0.02, 0.01).outcome is Outcome.SUSPECT
    limited(session, 5.0)
    assert session.judge(CELL)[0].for_the_run(1e-9, 0.01).outcome is Outcome.PASS


def test_evidence_is_the_mean_beyond_the_budget(session):
    limited(session, 0.25)
    verdict = session.judge(CELL)[0]
    excess = verdict.evidence.excess
    assert sum(excess) / len(excess) == pytest.approx(verdict.comparison.change.estimate - 0.25)
    assert verdict.evidence.sample == "austen"
    assert Evidence.from_json(json.loads(json.dumps(verdict.evidence.to_json()))) == (
        verdict.evidence
    )


def test_a_summary_of_a_cut_off_cell_is_of_the_last_look_that_it_has(session):
    session.record(CELL.dense)
    session.record(CELL)
    limited(session, session.compare(CELL)[0].change.estimate)
    (verdict, *_) = session.summary([CELL])
    assert (verdict.outcome, verdict.look) == (Outcome.INCONCLUSIVE, 1)


def test_a_record_with_what_is_no_number_is_damaged(session):
    line = session.record(CELL).to_json()
    content = json.loads(line)
    content["measured"]["documents"][0]["kl"] = float("nan")
    with pytest.raises(ValueError, match="NaN is no number"):
        Record.from_json(json.dumps(content))
