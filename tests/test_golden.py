"""Files of this version, as they were written once: readers must go on to read them.

If one of these tests fails because a format changed, raise that format's schema, and write the file
anew: a reader refuses files of another schema, so it must not meet another format under this one.
"""

from __future__ import annotations

import math
from pathlib import Path

from pytest_sparsity.results import (
    Cell,
    ClaimVerdict,
    Configuration,
    Decision,
    Interval,
    StoredCheck,
    read_checks,
    read_findings,
    read_gate,
    read_metrics,
    read_records,
)

GOLDEN = Path(__file__).with_name("golden")


def test_records() -> None:
    (record,) = read_records(GOLDEN)
    assert record.cell == Cell(
        Configuration("tiny-random", "teal", 0.5, weights="int8"), "generation"
    )
    assert record.id == "3d7c16241640f2f2"
    assert record.key == {"dtype": "float32", "prefill": "first:1", "seed": 0, "weights": "ab" * 32}
    assert [unit["first_divergence"] for unit in record.units] == [2, None]
    assert record.cost == {"peak_bytes": 1048576, "seconds": 1.5, "tokens": 8}
    assert record.when == "2026-11-30T04:00:00+00:00"


def test_metrics() -> None:
    dense, sparse = read_metrics(GOLDEN)
    assert (dense.configuration, dense.outcome) == ("tiny-random-dense", "reference")
    assert dense.value == Interval(400.5, 390.0, 410.0, 12, detectable=0.01)
    assert (dense.change, dense.p_value, dense.budget) == (None, None, None)
    assert (sparse.evaluation, sparse.name) == ("task:sva", "accuracy:sva")
    assert math.isnan(sparse.value.low)
    assert sparse.change is not None
    assert (sparse.change.estimate, sparse.change.low, sparse.change.high) == (0.25, 0.125, 0.5)
    assert (sparse.outcome, sparse.p_value, sparse.budget) == ("fail", 0.03125, 0.1)


def test_gate() -> None:
    gate = read_gate(GOLDEN)
    assert (gate.mode, gate.against, gate.without_baseline) == (
        "fail",
        "main",
        ("sparse_linear/new",),
    )
    worse, fine = gate.decisions
    assert (worse.kind, worse.id, worse.decision) == (
        "speed",
        "sparse_linear/mine",
        Decision.REGRESSED,
    )
    assert (worse.reason, worse.figures, worse.source) == (
        "1.25 times as long",
        {"ratio": 1.25},
        "mine.py:3",
    )
    assert (fine.kind, fine.decision, fine.source) == ("accuracy", Decision.OK, None)


def test_checks() -> None:
    (check,) = read_checks(GOLDEN)
    assert check == StoredCheck(
        kernel="sparse_linear/mine",
        check="bounds",
        status="failed",
        message="is off",
        case="rows=1 k=4",
        examples=3,
        tolerance=1.5,
    )


def test_findings() -> None:
    (finding,) = read_findings(GOLDEN)
    assert (finding.claim, finding.model) == ("3", "tiny-random")
    assert (finding.outcome, finding.why) == (ClaimVerdict.REFUTED, "it is not so")
    (effect,) = finding.effects
    assert (effect.label, effect.unit, effect.limit) == ("share recovered", "share", 0.5)
    assert (effect.interval.low, effect.interval.note) == (-math.inf, "no lower limit")
    assert finding.cells == ("tiny-random-dense-perplexity:austen",)
    assert finding.data == {"share": 0.25}
