"""From records to metrics: signs, pairing and units."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_sparsity.sweep.comparison import compare, evaluation_of, perplexity_change


def metrics(comparisons):
    return {c.metric: c for c in comparisons}


def test_dense_has_a_value_and_no_change(record, configurations):
    dense = record(configurations[0])
    (one,) = compare(dense, dense, None, seed=0)
    assert one.metric == "perplexity:austen"
    assert one.value.estimate == pytest.approx(math.exp(7 / 4))
    assert one.change is None


def test_perplexity_of_a_sparse_model(record, configurations):
    dense = record(configurations[0], nll=[[1.0, 2.0], [3.0]])
    sparse = record(nll=[[1.5, 2.5], [3.2]])
    found = metrics(compare(sparse, dense, None, seed=0))
    assert set(found) == {"perplexity:austen", "kl:austen", "agreement:austen"}
    perplexity = found["perplexity:austen"]
    assert perplexity.value.estimate == pytest.approx(math.exp(7.2 / 3))
    assert perplexity.change.estimate == pytest.approx(math.exp(1.2 / 3) - 1)
    assert perplexity.change.low <= perplexity.change.estimate <= perplexity.change.high
    assert found["kl:austen"].value.estimate == pytest.approx(0.1)
    assert found["kl:austen"].change == found["kl:austen"].value
    assert found["agreement:austen"].value.estimate == pytest.approx(1 / 3)
    assert found["agreement:austen"].change.estimate == pytest.approx(2 / 3)
    agreement = found["agreement:austen"]
    assert agreement.change.low == pytest.approx(1 - agreement.value.high)


def test_recovery(record, configurations):
    dense = record(configurations[0], nll=[[1.0], [1.0]])
    off = record(nll=[[2.0], [2.0]])
    on = record(configurations[2], nll=[[1.25], [1.25]])
    found = metrics(compare(on, dense, off, seed=0))
    assert found["recovery:austen"].value.estimate == pytest.approx(0.75)
    assert found["recovery:austen"].change is None
    assert "recovery:austen" not in metrics(compare(on, dense, None, seed=0))


def test_only_documents_that_both_have_are_compared(record, configurations):
    dense = record(configurations[0], nll=[[1.0], [2.0]])
    sparse = record(nll=[[1.5], [2.5], [99.0]])
    change = perplexity_change(sparse, dense, seed=0)
    assert change.n == 2
    assert change.estimate == pytest.approx(math.expm1(0.5))


def test_dense_is_told_on_the_data_of_the_row(record, task_record, configurations):
    """Dense may have more documents and items; its own figure is then another."""
    dense = record(configurations[0], nll=[[1.0, 2.0], [4.0], [9.0]])
    sparse = record(nll=[[1.5, 2.5], [4.2]])
    found = metrics(compare(sparse, dense, None, seed=0))["perplexity:austen"]
    assert found.dense == pytest.approx(math.exp(7 / 3))
    assert found.value.estimate / found.dense == pytest.approx(1 + found.change.estimate)
    more = task_record(configurations[0], [True] * 6 + [False] * 4 + [True] * 10)
    few = task_record(configurations[1], [True] * 5 + [False] * 5)
    (one,) = compare(few, more, None, seed=0)
    assert (one.dense, one.value.estimate) == (0.6, 0.5)
    (base,) = compare(more, more, None, seed=0)
    assert base.dense is None


def test_pairs_are_made_by_id_not_by_place(record, configurations):
    dense = record(configurations[0], nll=[[1.0], [5.0]])
    sparse = record(nll=[[1.0], [5.0]])
    turned = replace(sparse, measured={"documents": sparse.units[::-1]})
    change = perplexity_change(turned, dense, seed=0)
    assert (change.estimate, change.low, change.high) == (0, 0, 0)


def test_accuracy(task_record, configurations):
    before, after = [True] * 8 + [False] * 2, [True] * 5 + [False] * 5
    dense, sparse = task_record(configurations[0], before), task_record(configurations[1], after)
    (one,) = compare(sparse, dense, None, seed=0)
    assert one.metric == "accuracy:sva"
    assert one.value.estimate == 0.5
    assert one.change.estimate == pytest.approx(0.3)  # a drop is damage, hence positive
    assert one.p_value == pytest.approx(0.25)
    (base,) = compare(dense, dense, None, seed=0)
    assert (base.value.estimate, base.change, base.p_value) == (0.8, None, None)


def test_accuracy_is_normalised_where_the_task_is(task_record, configurations):
    one = task_record(configurations[0], [True, True, True, False])
    normalised = replace(one, measured={**one.measured, "normalisation": "token"})
    (found,) = compare(normalised, normalised, None, seed=0)
    assert found.value.estimate == 0.25


def test_path(record, configurations):
    prompts = [
        {"id": "a", "tokens": 32, "first_divergence": None},
        {"id": "b", "tokens": 32, "first_divergence": 8},
    ]
    sparse = record(evaluation="generation", measured={"prompts": prompts})
    (one,) = compare(sparse, sparse, None, seed=0)
    assert one.metric == "path:generation"
    assert one.value.estimate == 20
    assert one.change.estimate == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("metric", "evaluation"),
    [
        ("perplexity:austen", "perplexity:austen"),
        ("kl:austen", "perplexity:austen"),
        ("agreement:x", "perplexity:x"),
        ("recovery:x", "perplexity:x"),
        ("accuracy:sva", "task:sva"),
        ("path:generation", "generation"),
    ],
)
def test_evaluation_of(metric, evaluation):
    assert evaluation_of(metric) == evaluation
