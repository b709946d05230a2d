"""Evaluations of tasks: which are asked for, their metrics, and tasks that are no evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import compare, evaluation_of
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.stores import make_stores
from pytest_sparsity.sweep.verdict import Outcome, judge

TINY = Configuration("tiny-random")
SPARSE = Configuration("tiny-random", "teal", 0.5)
KINDS = ("exact_match", "answer_likelihood", "divergence")


def metrics(comparisons):
    return {c.metric: c for c in comparisons}


# --- what is asked for


@pytest.mark.parametrize(
    ("asked", "evaluations"),
    [
        ("sva", ["task:sva"]),
        ("gsm8k", [f"{kind}:gsm8k" for kind in KINDS]),
        ("divergence:gsm8k", ["divergence:gsm8k"]),
        ("exact_match:sva", ["exact_match:sva"]),
        ("lm-eval:gsm8k", ["task:lm-eval:gsm8k"]),
        ("hellaswag", ["task:hellaswag"]),
    ],
)
def test_evaluations_of_a_task(asked, evaluations):
    assert grid.task_evaluations(asked) == evaluations


def test_a_file_of_chains_is_measured_as_one(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"header": {"kind": "chain", "cue": "So it is"}}))
    assert grid.task_evaluations(str(path)) == [f"{kind}:{path}" for kind in KINDS]


def test_nothing_is_asked_for_twice(settings):
    chosen = replace(settings, tasks=("gsm8k", "divergence:gsm8k", "sva"))
    assert grid.evaluations(chosen) == [
        "perplexity:austen",
        *(f"{kind}:gsm8k" for kind in KINDS),
        "task:sva",
        "generation",
    ]
    assert grid.task_names(chosen) == ["gsm8k", "sva"]


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("divergence:sva", "task sva has no reference chains of thought, and cannot be measured"),
        ("answer_likelihood:lambada", "tasks that can are chain_sums, chain_handover, chain_kinds"),
        ("task:gsm8k", "task gsm8k has only reference chains of thought, and cannot be measured"),
        ("exact_match:chain_sum", "did you mean 'chain_sums'"),
    ],
)
def test_an_evaluation_that_does_not_fit_its_task_is_one_sentence(settings, evaluation, message):
    with pytest.raises(SparsityError, match=message):
        make_stores(settings).texts.task_of(evaluation)


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_names_its_evaluation(kind):
    named = {
        "exact_match": ("exact_match", "path"),
        "answer_likelihood": ("answer_greedy", "answer_nll", "chain_nll"),
        "divergence": ("kl_reasoning", "kl_prose", "kl_ratio"),
    }
    for metric in named[kind]:
        assert evaluation_of(f"{metric}:gsm8k") == f"{kind}:gsm8k"
    assert evaluation_of("path:generation") == "generation"


# --- metrics, by hand


def record_of(configuration, evaluation, items, chance=0.25):
    measured = {"items": items, "normalisation": "sum", "chance": chance, "family": "reasoning"}
    return Record(Cell(configuration, evaluation), {}, measured, {}, "now")


def answers(right, paths):
    return [
        {"id": f"i{n}", "right": r, "path": p}
        for n, (r, p) in enumerate(zip(right, paths, strict=True))
    ]


def test_generated_answers():
    path = [1, 2, 3, 4]
    dense = record_of(TINY, "exact_match:t", answers([True] * 9 + [False], [path] * 10))
    off = [[1, 2, 3, 9], [9], [1, 2], *[path] * 7]
    sparse = record_of(SPARSE, "exact_match:t", answers([False] * 3 + [True] * 7, off))
    own = metrics(compare(dense, dense, None, seed=0))
    assert own["exact_match:t"].value.estimate == 0.9
    assert own["path:t"].value.estimate == 4
    assert own["path:t"].change is None
    found = metrics(compare(sparse, dense, None, seed=0))
    assert found["exact_match:t"].change.estimate == pytest.approx(0.2)
    assert found["exact_match:t"].p_value == pytest.approx(0.625)  # three lost, one won
    assert found["path:t"].value.estimate == pytest.approx((3 + 0 + 2 + 7 * 4) / 10)
    assert found["path:t"].change.estimate == pytest.approx((0.25 + 1 + 0.5) / 10)
    assert not any(c.refused for c in found.values())


def likelihoods(right, answer, chain):
    return [
        {"id": f"i{n}", "right": r, "answer": a, "chain": c}
        | {"answer_tokens": 1 + n, "chain_tokens": 10}
        for n, (r, a, c) in enumerate(zip(right, answer, chain, strict=True))
    ]


def test_likelihood_after_the_chain():
    count = 8
    before = likelihoods([True] * count, [-1.0] * count, [-5.0] * count)
    after = likelihoods([False] * count, [-3.0] * count, [-9.0] * count)
    dense = record_of(TINY, "answer_likelihood:t", before, chance=0.1)
    sparse = record_of(SPARSE, "answer_likelihood:t", after, chance=0.1)
    found = metrics(compare(sparse, dense, None, seed=0))
    tokens = sum(range(1, count + 1))
    assert found["answer_nll:t"].value.estimate == pytest.approx(3 * count / tokens)
    assert found["answer_nll:t"].change.estimate == pytest.approx(2 * count / tokens)
    assert found["chain_nll:t"].change.estimate == pytest.approx(0.4)
    assert found["answer_greedy:t"].change.estimate == 1.0


def divergences(reasoning, prose):
    part = {"log_likelihood": -1.0, "agreement": 1}
    return [
        {"id": f"i{n}", "tokens": 10, "reasoning": {"kl": r, **part}, "prose": {"kl": p, **part}}
        for n, (r, p) in enumerate(zip(reasoning, prose, strict=True))
    ]


def test_divergence_on_reasoning_against_prose():
    zero = [0.0] * 6
    dense = record_of(TINY, "divergence:t", divergences(zero, zero))
    reasoning, prose = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], [2.0, 4.1, 6.0, 2.0, 3.9, 6.0]
    sparse = record_of(SPARSE, "divergence:t", divergences(reasoning, prose))
    found = metrics(compare(sparse, dense, None, seed=0))
    assert found["kl_reasoning:t"].value.estimate == pytest.approx(12 / 60)
    assert found["kl_reasoning:t"].change == found["kl_reasoning:t"].value
    assert found["kl_prose:t"].value.estimate == pytest.approx(24 / 60)
    ratio = found["kl_ratio:t"]
    assert ratio.value.estimate == pytest.approx(0.5)
    assert ratio.value.high < 1
    assert ratio.change is None
    assert {c.value.estimate for c in compare(dense, dense, None, seed=0)} == {0.0}


# --- tasks that are no evidence


def test_a_task_at_chance_is_refused_for_dense_and_for_sparse():
    dense = record_of(TINY, "exact_match:t", answers([True, False] * 10, [[1]] * 20), chance=0.5)
    sparse = record_of(SPARSE, "exact_match:t", answers([True] * 20, [[1]] * 20), chance=0.5)
    for record in (dense, sparse):
        found = metrics(compare(record, dense, None, seed=0))
        verdict = judge(found["exact_match:t"], None)
        assert verdict.outcome is Outcome.REFUSED
        assert verdict.message.endswith(
            "refused as evidence, dense is right on 10 of 20, chance is 0.5 (exact binomial "
            "p = 0.59)"
        )
        assert judge(found["path:t"], None).outcome is not Outcome.REFUSED


def test_likelihoods_are_refused_with_the_answers():
    units = likelihoods([False] * 8, [-1.0] * 8, [-5.0] * 8)
    dense = record_of(TINY, "answer_likelihood:t", units)
    assert all(c.refused for c in compare(dense, dense, None, seed=0))


@pytest.fixture
def session(settings, tmp_path, sparsity_cache):
    chosen = replace(
        settings,
        models=("tiny-random",),
        tasks=("chain_kinds",),
        report=tmp_path,
        cache=sparsity_cache,
        dtype="float32",
        budgets=None,
    )
    return SweepSession(chosen)


@pytest.mark.slow
def test_a_random_model_is_refused_on_every_item_that_may_be_drawn(session):
    sparse = Cell(SPARSE, "answer_likelihood:chain_kinds")
    (greedy, *_) = session.judge(sparse)
    assert greedy.outcome is Outcome.REFUSED
    sizes = session.settings.sizes
    dense = session.record(sparse.dense)
    assert len(dense.units) == sizes.items * sizes.draws  # drawn to the end ...
    assert len(session.record(sparse).units) == sizes.items  # ... and not for the sparse model
    assert dense.measured["refused"] == greedy.comparison.refused != ""
    assert "refused" not in session.record(sparse).measured
    assert dense.measured["family"] == "reasoning"


@pytest.mark.slow
def test_who_generates_an_answer_does_not_see_the_choices(session):
    task = session.texts.task("basic_pattern")
    chances = {
        kind: session.record(Cell(TINY, f"{kind}:{task.name}")).measured["chance"]
        for kind in ("task", "exact_match")
    }
    assert chances == {"task": task.chance, "exact_match": task.written_chance}
    assert task.written_chance < task.chance


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_drawing_in_steps_gives_the_record_of_one_go(session, tmp_path, kind):
    cell = Cell(SPARSE, f"{kind}:chain_kinds")
    session.record(cell, 1)
    stepped = session.record(cell, 2)
    fresh = SweepSession(replace(session.settings, report=tmp_path / "fresh")).record(cell, 2)
    assert stepped.id == fresh.id
    assert stepped.units == fresh.units
    assert len(stepped.units) == 2 * cell.units(session.settings.sizes)
