"""Two records of a cell: what may differ, what is compared, and what is decided."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.changes import ACCURACY_TOLERANCE, PERPLEXITY_TOLERANCE
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import decide, judge_change

SPARSE = Configuration("m", "teal", 0.5)
KEY: dict[str, Any] = {
    "weights": "w",
    "data": {"corpus": "c", "window": 256},
    "prefill": "first:1",
    "seed": 0,
    "dtype": "bfloat16",
    "versions": {"torch": "2.13.0"},
    "code": "k1",
    "method": {"tied": False},
    "target": "cpu-1",
}


def record(measured: dict[str, Any], evaluation: str = "perplexity:austen", **key: Any) -> Record:
    return Record(Cell(SPARSE, evaluation), {**KEY, **key}, measured, {}, "2026-01-01T00:00:00")


def documents(factor: float = 1.0, noise: float = 0.0, count: int = 32, **key: Any) -> Record:
    """Documents of 64 tokens, alike in all records but for a factor and noise on each token."""
    text, change = random.Random(1), random.Random(2)
    units = [
        {
            "id": f"d{number}",
            "tokens": 64,
            "log_likelihoods": [
                -text.expovariate(0.3) * (factor + change.gauss(0, noise)) for _ in range(64)
            ],
            "kl": 0.0,
            "agreement": 64,
        }
        for number in range(count)
    ]
    return record({"documents": units}, **key)


def items(right: Sequence[bool], scores: float = 0.0, **key: Any) -> Record:
    units = [
        {"id": f"i{n}", "right": r, "right_normalised": not r, "scores": [scores]}
        for n, r in enumerate(right)
    ]
    measured = {"items": units, "normalisation": "sum", "chance": 0.5}
    return record(measured, "task:sva", **{"data": {"task": "t", "draw": 100}, **key})


def test_equal_records_are_ok_without_statistics():
    found = judge_change(documents(), documents(), seed=0)
    assert found.decision is Decision.OK
    assert found.change is None
    assert found.reason == "equal to the last bit (32 documents)"


def test_tuples_and_lists_are_equal():
    now = documents()
    for unit in now.measured["documents"]:
        unit["log_likelihoods"] = tuple(unit["log_likelihoods"])
    assert judge_change(now, documents(), seed=0).change is None


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ({"weights": "other"}, "the models' weights differ: other now, w in the baseline"),
        ({"data": {"corpus": "d", "window": 256}}, "the evaluation data differ"),
        ({"data": {"corpus": "c", "window": 128}}, "the evaluation data differ"),
        ({"prefill": "none"}, "the prefill policies differ: none now, first:1"),
        ({"seed": 1}, "the seeds differ: 1 now, 0 in the baseline"),
    ],
)
def test_not_comparable(key, reason):
    found = judge_change(documents(**key), documents(), seed=0)
    assert found.decision is Decision.NOT_COMPARABLE
    assert reason in found.message
    assert found.to_json()["figures"] == {}


@pytest.mark.parametrize(
    "key",
    [
        {"code": "k2"},
        {"dtype": "float32"},
        {"versions": {"torch": "3.0"}},
        {"method": {"tied": True}},
        {"target": "cuda-1"},
    ],
)
def test_what_is_judged_may_differ(key):
    found = judge_change(documents(1.05, **key), documents(), seed=0)
    assert found.decision is Decision.REGRESSED


def test_no_common_document():
    now = documents()
    for unit in now.measured["documents"]:
        unit["id"] += "x"
    found = judge_change(now, documents(), seed=0)
    assert found.decision is Decision.NOT_COMPARABLE
    assert "no document or item in common" in found.reason


def test_only_common_documents_are_compared():
    found = judge_change(documents(1.05, count=40), documents(count=20), seed=0)
    assert "over 20 documents" in found.reason
    assert found.change.n == 20


@pytest.mark.parametrize(
    ("factor", "decision"),
    [
        (1.0, Decision.OK),  # rounding only: 0.0001 of noise
        (1.0003, Decision.OK),  # +0.1 % of perplexity
        (1.01, Decision.REGRESSED),  # +3 %
        (0.99, Decision.IMPROVED),
    ],
)
def test_perplexity(factor, decision):
    found = judge_change(documents(factor, 0.0001), documents(), seed=0)
    assert found.decision is decision, found.message
    assert found.change is not None
    assert "tolerated 0.5 %" in found.reason


def test_noise_is_inconclusive():
    found = judge_change(documents(1.0015, 0.2), documents(), seed=0)
    assert found.decision is Decision.INCONCLUSIVE, found.message


def test_accuracy():
    before = [True] * 150 + [False] * 50
    lost = [n >= 30 and right for n, right in enumerate(before)]
    found = judge_change(items(lost), items(before), seed=0)
    assert found.decision is Decision.REGRESSED
    assert "dropped by +15.00" in found.reason
    assert "30 items lost and 0 won" in found.reason
    assert found.p_value < 1e-6
    assert found.to_json()["figures"]["p_value"] == found.p_value
    assert judge_change(items(before), items(lost), seed=0).decision is Decision.IMPROVED


def test_a_few_items_do_not_decide():
    before = [True] * 70 + [False] * 30
    now = [n >= 2 and right for n, right in enumerate(before)]
    assert judge_change(items(now), items(before), seed=0).decision is Decision.INCONCLUSIVE


def test_normalised_accuracy_is_that_of_the_task():
    before, now = items([True] * 200), items([True] * 200, scores=0.1)
    for one in (before, now):
        one.measured["normalisation"] = "chars"
    now.measured["items"][0]["right"] = False  # is not looked at
    assert judge_change(now, before, seed=0).change.estimate == 0


def test_how_items_were_packed_is_no_difference_of_data():
    now = items([True] * 60, data={"task": "t", "draw": 24})
    assert judge_change(now, items([True] * 100), seed=0).decision is Decision.OK


def test_greedy_paths():
    def prompts(first: int | None) -> Record:
        units = [
            {"id": f"p{n}", "tokens": 32, "first_divergence": first, "path": [first]}
            for n in range(8)
        ]
        return record({"prompts": units}, "generation")

    found = judge_change(prompts(8), prompts(None), seed=0)
    assert found.decision is Decision.REGRESSED
    assert "off the dense path +75.00" in found.reason
    assert judge_change(prompts(None), prompts(None), seed=0).decision is Decision.OK


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.006, 0.02, Decision.REGRESSED),
        (0.005, 0.02, Decision.INCONCLUSIVE),
        (0.001, 0.006, Decision.INCONCLUSIVE),
        (0.001, 0.005, Decision.OK),
        (-0.02, 0.005, Decision.OK),
        (-0.02, -0.006, Decision.IMPROVED),
        (float("-inf"), float("inf"), Decision.INCONCLUSIVE),
    ],
)
def test_the_whole_interval_decides(low, high, decision):
    assert decide(Interval((low + high) / 2, low, high, 9), PERPLEXITY_TOLERANCE) is decision


def test_records_of_two_cells():
    other = replace(documents(), cell=Cell(SPARSE, "perplexity:factbook"))
    with pytest.raises(ValueError, match="records of two cells"):
        judge_change(documents(), other, seed=0)


def test_one_item_of_a_hundred_is_tolerated():
    assert ACCURACY_TOLERANCE == 0.01


def test_among_many_a_regression_may_be_suspect():
    found = judge_change(documents(1.01, 0.05), documents(), seed=0)
    assert found.decision is Decision.REGRESSED
    assert found.at(found.evidence.p) == found
    suspect = found.at(found.evidence.p / 2)
    assert suspect.decision is Decision.SUSPECT
    assert not suspect.decision.decided
    assert suspect.message.endswith(f"p = {found.evidence.p:.2g} alone")


def test_the_evidence_of_a_change_is_its_mean_beyond_what_is_tolerated():
    for now, before, tolerance in (
        (documents(1.01, 0.05), documents(), PERPLEXITY_TOLERANCE),
        (items([False] * 30 + [True] * 70), items([True] * 100), ACCURACY_TOLERANCE),
    ):
        found = judge_change(now, before, seed=0)
        excess = found.evidence.excess
        assert sum(excess) / len(excess) == pytest.approx(found.change.estimate - tolerance)
        assert found.evidence.id == f"gate {now.cell.id}"
    assert judge_change(documents(), documents(), seed=0).evidence.p == 1
