"""Shares lost, and what is compared of them, against values worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.claims import question_answers as answers
from pytest_sparsity.claims.evidence import BrokenEvidence
from pytest_sparsity.claims.question_answers import Answers
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record


def task(dense: int, *sparse: int, n: int = 100, chance: float = 0.2, **changes: Any) -> Answers:
    """The first so many items right, of the dense model and of each cell."""
    right = np.array([[float(i < k) for k in (dense, *sparse)] for i in range(n)])
    achieved = tuple(0.1 * (1 + cell) for cell in range(len(sparse)))
    made = Answers("t", "reasoning", chance, right, achieved, "")
    return replace(made, **changes)


def record(right: str, method: str = "teal", ids: str = "abcdefghij") -> Record:
    """A task's record; ``right`` has a 1 or 0 per item."""
    items = [{"id": i, "right": mark == "1"} for i, mark in zip(ids, right, strict=False)]
    marks = {"normalisation": "sum", "chance": 0.25, "family": "language"}
    configuration = Configuration("m", method, 0.0 if method == "dense" else 0.5)
    return Record(Cell(configuration, "task:sva"), {}, {"items": items, **marks}, {}, "")


def test_answers_of_records() -> None:
    found = Answers.of(record("1111111111", "dense"), [record("1010101010")], [0.4], 8)
    assert found.task == "sva"
    assert found.family == "language"
    assert found.right.tolist() == [[1, 1], [1, 0]] * 4
    assert found.accuracy.tolist() == [1.0, 0.5]
    assert found.achieved == (0.4,)
    assert found.refused == ""


def test_a_task_at_chance_is_refused() -> None:
    found = Answers.of(record("1010000000", "dense"), [record("1010101010")], [0.4], 10)
    assert "chance is 0.25" in found.refused
    assert answers.usable([found], "language") == []


def test_other_items_are_broken_evidence() -> None:
    with pytest.raises(BrokenEvidence, match="not measured on the same items"):
        Answers.of(record("11", "dense"), [record("11", ids="ba")], [0.4], 2)


def test_answers_survive_json() -> None:
    made = task(80, 60, 40)
    read = Answers.from_json(json.loads(json.dumps(made.to_json())))
    assert read.right.tolist() == made.right.tolist()
    assert replace(read, right=made.right).__dict__ == made.__dict__


def test_a_share_is_of_what_is_known_beyond_guessing() -> None:
    assert answers.lost_share([task(80, 80)], 0, seed=0).estimate == 0.0
    assert answers.lost_share([task(80, 50)], 0, seed=0).estimate == 0.5
    assert answers.lost_share([task(80, 20)], 0, seed=0).estimate == 1.0
    assert answers.lost_share([task(80, 50, 65)], 1, seed=0).estimate == 0.25


def test_a_task_counts_by_what_is_known_of_it() -> None:
    found = answers.lost_share([task(80, 50), task(40, 40, n=50)], 0, seed=0)
    assert found.estimate == pytest.approx(30 / (60 + 30))
    assert found.n == 150
    assert found.low < 0.25 < found.high


def test_a_share_of_next_to_nothing_has_no_limits() -> None:
    found = answers.lost_share([task(5, 2, n=20)], 0, seed=0)
    assert found.high == math.inf
    together = answers.lost_share([task(5, 2, n=20), task(80, 50)], 0, seed=0)
    assert together.high < 1


def test_excess_of_one_family_over_another() -> None:
    found = answers.excess([task(80, 50)], [task(80, 74), task(80, 68)], 0, seed=0)
    assert found.estimate == pytest.approx(0.5 - 18 / 120)
    assert found.low > 0
    back = answers.excess([task(80, 74), task(80, 68)], [task(80, 50)], 0, seed=0)
    assert back.estimate == -found.estimate
    assert back.high < 0


def test_excess_over_the_probability_of_text() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 100, 30).astype(float)
    documents = np.stack([0.5 * tokens, tokens], axis=1)  # half a nat per token
    found = answers.excess_over_text([task(80, 50)], 0, documents, seed=0)
    assert found.estimate == pytest.approx(0.5 - (1 - math.exp(-0.5)))


def test_no_item_that_changed_is_no_proof_that_none_would() -> None:
    for found in (
        answers.lost_share([task(80, 80)], 0, seed=0),
        answers.excess([task(80, 80)], [task(60, 60)], 0, seed=0),
        answers.accuracy_difference([task(80, 50, 50)], 0, 1, seed=0),
    ):
        assert found.estimate == 0.0
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert "no item changed" in found.note


def test_accuracies() -> None:
    tasks = [task(80, 50, 70), task(90, 30, 60)]
    assert answers.mean_accuracy(tasks, 0, seed=0).estimate == pytest.approx(0.85)
    assert answers.mean_accuracy(tasks, 2, seed=0).estimate == pytest.approx(0.65)
    found = answers.accuracy_difference(tasks, 0, 1, seed=0)
    assert found.estimate == pytest.approx(-0.25)
    assert found.high < 0


def test_correlation_over_tasks_and_cells() -> None:
    tasks = [task(80, 78, 70, 50), task(90, 88, 75, 40)]
    found = answers.correlation(tasks, seed=0)
    assert found.estimate > 0.9
    assert found.low > 0
    down = [replace(t, achieved=t.achieved[::-1]) for t in tasks]
    assert answers.correlation(down, seed=0).high < 0


def test_equal_losses_are_ties_whatever_rounding_says() -> None:
    # 3 of 30 and 6 of 60 are not equal in floating point once chance is taken off.
    found = answers.correlation([task(70, 64, 64, n=100, chance=0.1), task(7, 6, 6, n=10)], seed=0)
    assert math.isnan(found.estimate) or abs(found.estimate) < 1
