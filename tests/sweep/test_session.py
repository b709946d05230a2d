"""A session measures what the store lacks, and draws more data while undecided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.neurons.fixed import RandomNeurons
from pytest_sparsity.sweep import measuring
from pytest_sparsity.sweep.budgets import Budget, Budgets
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.code_hash import variant
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.regression import judge_change
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.verdict import Outcome

SPARSE = Configuration("tiny-random", "teal", 0.5)
CELL = Cell(SPARSE, "perplexity:austen")


@pytest.fixture
def session(settings, tmp_path, sparsity_cache):
    return SweepSession(
        replace(
            settings,
            models=("tiny-random",),
            report=tmp_path,
            cache=sparsity_cache,
            dtype="float32",
            budgets=None,
        )
    )


@pytest.fixture
def measurements(monkeypatch):
    """Every call of measure: cell, draws, and how much was known."""
    calls = []
    real = measuring.measure

    def measure(inputs, draws, known):
        calls.append((inputs.cell.id, draws, len(known.units) if known else 0))
        return real(inputs, draws, known)

    monkeypatch.setattr(measuring, "measure", measure)
    return calls


def test_a_cell_is_measured_once(session, measurements):
    first = session.record(CELL)
    assert session.record(CELL).to_json() == first.to_json()
    assert session.known(CELL).to_json() == first.to_json()
    assert len(measurements) == 1
    again = SweepSession(session.settings)
    assert again.record(CELL).to_json() == first.to_json()
    assert len(measurements) == 1


@pytest.mark.parametrize("evaluation", ["perplexity:austen", "task:sva", "generation"])
def test_drawing_in_steps_gives_the_record_of_one_go(session, settings, tmp_path, evaluation):
    cell = Cell(SPARSE, evaluation)
    session.record(cell, 1)
    stepped = session.record(cell, 2)
    fresh = SweepSession(replace(session.settings, report=tmp_path / "fresh")).record(cell, 2)
    assert stepped.id == fresh.id
    assert stepped.units == fresh.units
    if evaluation != "generation":
        assert len(stepped.units) == {"perplexity:austen": 24, "task:sva": 48}[evaluation]
    if evaluation == "perplexity:austen":
        weighted = [r.measured["achieved"]["weighted"] for r in (stepped, fresh)]
        assert weighted[0] == weighted[1]


@pytest.mark.parametrize("evaluation", ["perplexity:austen", "task:sva", "generation"])
def test_another_seed_measures_other_units_and_says_so(session, tmp_path, evaluation):
    cell = Cell(SPARSE, evaluation)
    other = SweepSession(replace(session.settings, report=tmp_path / "seed", seed=1))
    ours, theirs = session.record(cell), other.record(cell)
    assert {unit["id"] for unit in ours.units} != {unit["id"] for unit in theirs.units}
    assert "sample" not in ours.key["data"]  # records of before stay those of seed 0
    assert (theirs.key["seed"], theirs.key["data"]["sample"]) == (1, 1)
    if evaluation != "generation":
        further = other.record(cell, 2)
        assert further.id == theirs.id
        assert further.units[: len(theirs.units)] == theirs.units
        assert len({unit["id"] for unit in further.units}) == 2 * len(theirs.units)
    found = judge_change(theirs, ours, seed=0)
    assert found.decision is Decision.NOT_COMPARABLE
    assert found.reason == "the seeds differ: 1 now, 0 in the baseline"


def test_undecided_draws_up_to_the_cap(session, measurements):
    estimate = session.compare(CELL)[0].change.estimate
    session.budgets = Budgets([Budget(SPARSE, "perplexity:austen", estimate, False, "test")])
    verdicts = session.judge(CELL)
    assert [(draws, known) for id, draws, known in measurements if id == CELL.id] == [
        (1, 0),
        (2, 12),
    ]
    assert verdicts[0].comparison.change.n == 24


def test_decided_draws_no_more(session, measurements):
    session.budgets = Budgets([Budget(SPARSE, "perplexity:austen", 5.0, False, "test")])
    assert session.judge(CELL)[0].outcome is Outcome.PASS
    assert [draws for _, draws, _ in measurements] == [1, 1]


def test_summary_measures_nothing(session, measurements):
    assert session.summary([CELL]) == []
    session.compare(CELL)
    measurements.clear()
    assert [v.comparison.metric for v in session.summary([CELL, CELL.dense])] == [
        *("perplexity:austen", "kl:austen", "agreement:austen"),
        "perplexity:austen",
    ]
    skipped = session.skipped([CELL])[CELL]
    assert skipped.weights == pytest.approx(0.5, abs=0.03)
    assert (skipped.net, skipped.neurons) == (skipped.weights, None)
    assert measurements == []


def test_the_key_tells_what_makes_numbers_comparable(session, tmp_path):
    def id(**changes):
        other = SweepSession(replace(session.settings, report=tmp_path / "x", **changes))
        key = other.key(Cell(SPARSE, f"perplexity:{other.settings.corpora[0]}"))
        assert {"weights", "data", "calibration", "method", "spon", "prefill", "dtype"} <= set(key)
        assert {"seed", "code", "target", "versions"} <= set(key)
        return repr(sorted(key.items()))

    keys = [
        id(),
        id(seed=1),
        id(prefill="none"),
        id(dtype="float16"),
        id(calibration="jargon"),
        id(corpora=("factbook",)),
    ]
    assert len(set(keys)) == len(keys)
    assert id() == keys[0]


def test_weights_that_do_something_else_are_another_model(session, monkeypatch):
    """Such as with another activation in ``config.json``: records, thresholds and vectors."""

    def found(network: str):
        other = SweepSession(session.settings)
        changed = replace(other.models.load(SPARSE.model), network_hash=network)
        monkeypatch.setattr(ModelStore, "load", lambda self, name: changed)
        calibrator = other.calibrations.calibrator(SPARSE.model)
        plan, streams = other.plans.plan(SPARSE), other.texts.training_streams(SPARSE.model)
        path = other.plans.library.path(calibrator.model, plan, streams, changed)
        keys = [other.key(cell) for cell in (CELL, CELL.dense)]
        return [repr(sorted(key.items())) for key in keys], calibrator.hash, path

    one, two = found("one"), found("two")
    assert one == found("one")
    assert not {*one[0], *one[1:]} & {*two[0], *two[1:]}


def test_vectors_are_of_a_method_with_its_parameters(session):
    """The plan of another seed, or of a file of the user's, has vectors of its own."""
    plan = session.plans.plan(SPARSE)
    model = session.models.load(SPARSE.model)
    streams = session.texts.training_streams(SPARSE.model)

    class Drawn(RandomNeurons):
        pass  # in a file that is not the package's

    plans = [
        replace(plan, variant=variant(method))
        for method in (RandomNeurons(0), RandomNeurons(1), Drawn(0))
    ]
    assert len({session.plans.library.path(model, each, streams) for each in plans}) == 3
    assert plan.variant == variant(session.methods.method("teal"))


def test_a_context_shorter_than_what_is_read(session, monkeypatch):
    model = session.models.load(SPARSE.model)
    monkeypatch.setattr(model.model.config, "max_position_embeddings", 128)
    with pytest.raises(SparsityError, match="has 128 positions, and 256 tokens are read"):
        session.texts.calibration_tokens(SPARSE.model)
