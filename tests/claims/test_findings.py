from __future__ import annotations

import json
import math

import pytest

from pytest_sparsity.claims import store
from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.finding import ClaimVerdict, Effect, Finding
from pytest_sparsity.claims.log import finding_line, findings_table
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.live import progress_line

EFFECT = Effect("share", Interval(0.4, -math.inf, 0.5, 12, 0.975, math.nan, "a note"), "share", 0.1)
ORIGIN = {
    **dict.fromkeys(["profile", "dtype", "weights", "when"], "some"),
    "seed": 0,
    **{name: {} for name in ("sizes", "target", "versions", "data", "settings", "cost")},
}
FINDING = Finding("3", "m", ClaimVerdict.REFUTED, "because", (EFFECT,), ("a", "b"), {"x": [1]})


def test_a_finding_survives_json():
    text = json.dumps(FINDING.to_json(), allow_nan=False)
    assert repr(Finding.from_json(json.loads(text))) == repr(FINDING)  # NaN equals nothing


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("nats", "x 0.123 nats [0.100, 0.200]"),
        ("share", "x 12.3 % [10.0, 20.0]"),
        ("relative", "x +12.3 % [+10.0, +20.0]"),
        ("times", "x 0.123 times [0.100, 0.200]"),
        ("points", "x +12.3 points [+10.0, +20.0]"),
        ("correlation", "x 0.12 [0.10, 0.20]"),
    ],
)
def test_an_effect_in_words(unit, text):
    assert Effect("x", Interval(0.123, 0.1, 0.2, 12), unit).text == text


def test_an_effect_that_the_data_do_not_define():
    interval = Interval(math.nan, -math.inf, math.inf, 12, note="no limits: nothing was lost")
    assert Effect("x", interval, "share").text == "x undefined (no limits: nothing was lost)"


def test_the_last_finding_of_a_claim_counts(tmp_path):
    again = Finding("3", "m", ClaimVerdict.SUPPORTED, "more data")
    other = Finding("3", "n", ClaimVerdict.SUPPORTED, "another model")
    for finding in (FINDING, other, again):
        store.keep(tmp_path, finding, ORIGIN)
    found = store.stored(tmp_path)
    assert [(s.finding.model, s.finding.why) for s in found] == [
        ("n", "another model"),
        ("m", "more data"),  # the newest last
    ]
    assert found[0].origin == ORIGIN


def test_what_was_withdrawn_is_not_found(tmp_path):
    store.keep(tmp_path, FINDING, ORIGIN)
    store.withdraw(tmp_path, FINDING.claim, FINDING.model, "the documents differ")
    store.withdraw(tmp_path, "4", "never judged", "the documents differ")
    assert store.stored(tmp_path) == []
    store.keep(tmp_path, FINDING, ORIGIN)
    assert [s.finding.claim for s in store.stored(tmp_path)] == [FINDING.claim]


def test_a_line_that_a_crash_cut_off(tmp_path):
    store.keep(tmp_path, FINDING, ORIGIN)
    path = tmp_path / store.FILE
    with path.open("a") as file:
        file.write('{"schema": 1, "find')
    assert len(store.stored(tmp_path)) == 1
    store.keep(tmp_path, Finding("4", "m", ClaimVerdict.SUPPORTED, "next"), ORIGIN)
    assert [s.finding.claim for s in store.stored(tmp_path)] == ["3", "4"]


def test_no_findings(tmp_path):
    with pytest.raises(SparsityError, match=r"findings.jsonl.*--sparsity-suite=claims"):
        store.stored(tmp_path)


@pytest.mark.parametrize(
    "line", [b'{"schema": 99}', b"[]", b"nonsense", b'{"schema": 1}', b"\xff\xfe"]
)
def test_a_file_of_another_version(tmp_path, line):
    (tmp_path / store.FILE).write_bytes(line + b"\n")
    with pytest.raises(SparsityError, match="line 1 holds no finding of this version"):
        store.stored(tmp_path)


@pytest.mark.parametrize(
    ("claim", "origin", "said"),
    [
        ("99", ORIGIN, "no claim '99'"),
        ("3", {k: v for k, v in ORIGIN.items() if k != "cost"}, "its origin has no 'cost' that"),
        ("3", {**ORIGIN, "target": None}, "its origin has no 'target' that can be read"),
    ],
)
def test_a_finding_that_no_page_can_show(tmp_path, claim, origin, said):
    store.keep(tmp_path, Finding(claim, "m", ClaimVerdict.SUPPORTED, "because"), origin)
    with pytest.raises(SparsityError, match=rf"line 1 holds no finding of this version \({said}"):
        store.stored(tmp_path)


@pytest.mark.parametrize("length", [1, 45, 80, 300])
@pytest.mark.parametrize("claim", CATALOG)
def test_the_line_and_the_table_of_a_model_with_a_long_name(claim, length):
    found = []
    why = "the difference is 0.123 nats [0.100, 0.200] (below 0 claimed); and that is not all"
    for model in ("m" * length, "n" * length):
        finding = Finding(claim, model, ClaimVerdict.INCONCLUSIVE, why)
        found.append({"finding": finding.to_json(), "seconds": 12345.6})
        line = finding_line(found[-1])
        assert len(progress_line(line, len(found), 2, 3753)) <= 120
        assert "the difference is" in line
    assert "0.123 nats" in findings_table(found, 100)
