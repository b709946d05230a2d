"""speed.json: what is written is read, and what is no such file is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.speed.gate import baseline
from pytest_sparsity.speed.gate.result import Measured
from pytest_sparsity.speed.gate.static_metrics import differences

ENTRY = Measured(
    name="op/mine",
    seconds=(1.0, 1.1, 1.2, 1.3, 2.0, 2.2, 2.1, 9.0),
    iterations=7,
    processes=(4, 4),
    bytes=1000,
    peak_bytes=None,
    target="cpu-1",
    device="a processor",
    threads=1,
    versions={"torch": "2.13.0+cpu", "triton": "3.9.0", "pytest-sparsity": "0.1.0"},
    case="rows=1",
    source="abc",
    when="2025-01-01T00:00:00+00:00",
    static_metrics={
        "allocations": 3,
        "registers sm_90": 40,
        "load_bits sm_90 weight": 128,
        "instructions c++": 1000,
    },
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / baseline.FILE
    assert baseline.read(path) == {}
    baseline.add(path, {"op/mine": ENTRY})
    assert baseline.read(path) == {"op/mine": ENTRY}
    content = json.loads(path.read_text())
    assert content["schema"] == 1
    assert content["entries"]["op/mine"]["best"] == pytest.approx(1.1)
    other = replace(ENTRY, name="op/other", seconds=(), processes=())
    baseline.add(path, {"op/other": other})
    assert baseline.read(path) == {"op/mine": ENTRY, "op/other": other}


def test_entries_are_replaced_or_kept(tmp_path: Path) -> None:
    path = tmp_path / baseline.FILE
    baseline.add(path, {"op/mine": ENTRY})
    newer = replace(ENTRY, source="def")
    baseline.add(path, {"op/mine": newer, "op/new": newer}, keep=True)
    assert baseline.read(path) == {"op/mine": ENTRY, "op/new": newer}
    baseline.add(path, {"op/mine": newer})
    assert baseline.read(path)["op/mine"] == newer


def test_figures() -> None:
    assert ENTRY.best == pytest.approx((1.0 + 1.1 + 1.2) / 3)
    assert ENTRY.bests == pytest.approx((1.1, 2.1))
    assert ENTRY.spread == pytest.approx(0.5**0.5 / 1.1)
    assert ENTRY.bandwidth == pytest.approx(1000 / 1.1)
    assert ENTRY.noise == pytest.approx(1.65 / 1.1)


def _entry(**changes: Any) -> str:
    entry = ENTRY.to_json() | changes
    return json.dumps({"schema": 1, "entries": {"op/mine": entry}})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is truncated, or no JSON"),
        (_entry()[:200], "is truncated, or no JSON"),
        ("[]", "is no file of speeds: it has no schema"),
        ('{"benchmarks": []}', "is no file of speeds: it has no schema"),
        ('{"schema": true, "entries": {}}', "is no file of speeds: it has no schema"),
        ('{"schema": 2, "entries": {}}', "has schema 2, of a later version; this one reads 1"),
        ('{"schema": 1}', "is no file of speeds: it has no entries"),
        ('{"schema": 1, "entries": {"op/mine": 3}}', "has an entry 'op/mine' that is no table"),
        ('{"schema": 1, "entries": {"op/mine": {}}}', "has an entry 'op/mine' that cannot be read"),
        (_entry(seconds=[1.0, "x"]), "has an entry 'op/mine' that cannot be read"),
        (_entry(seconds=[-1.0] * 8), "that cannot be read (it has times that are not positive)"),
        (_entry(seconds=[1e999] * 8), "that cannot be read (it has times that are not finite)"),
        (_entry(seconds=[1.0]), "that cannot be read (its processes do not add up"),
        (_entry(processes=[0, 8]), "that cannot be read (its processes do not add up"),
        (_entry(colour="red"), "has an entry 'op/mine' that cannot be read"),
        (_entry(versions="2.13"), "cannot be read (its versions or companions are no table)"),
        (_entry(companions={"launches": "3"}), "(its companions are no whole numbers)"),
        ("\udcff", "cannot be read"),
    ],
)
def test_other_files_are_refused_and_kept(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / baseline.FILE
    path.write_text(content, errors="surrogateescape")
    before = path.read_bytes()
    for use in (lambda: baseline.read(path), lambda: baseline.add(path, {"op/mine": ENTRY})):
        with pytest.raises(SparsityError) as caught:
            use()
        assert str(caught.value).startswith(f"{path} ")
        assert complaint in str(caught.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"source": "changed"}, None),
        ({"versions": ENTRY.versions | {"torch": "2.13.5"}}, None),
        (
            {"versions": ENTRY.versions | {"torch": "2.14.0"}},
            "torch's version is another: stored 2.13, now 2.14",
        ),
        ({"versions": {"torch": "2.13.0"}}, "triton's version is another: stored 3.9, now None"),
        ({"target": "cpu-2"}, "the machine is another: stored a processor cpu-1, now a processor"),
        ({"threads": 2}, "threads is another: stored 1, now 2"),
        ({"case": "rows=2"}, "the case is another: stored rows=1, now rows=2"),
    ],
)
def test_what_is_comparable(changes: dict[str, Any], reason: str | None) -> None:
    found = baseline.obstacle(ENTRY, replace(ENTRY, **changes))
    assert found is None if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("now", "same_compiler", "told", "worse"),
    [
        ({}, True, [], False),
        ({"allocations": 4}, True, ["allocations 3 -> 4"], True),
        ({"allocations": 4}, False, ["allocations 3 -> 4"], True),
        ({"allocations": 2}, True, ["allocations 3 -> 2"], False),
        ({"registers sm_90": 41}, True, ["registers sm_90 40 -> 41"], True),
        ({"registers sm_90": 41}, False, [], False),
        ({"load_bits sm_90 weight": 64}, True, ["load_bits sm_90 weight 128 -> 64"], True),
        ({"load_bits sm_90 weight": 256}, True, ["load_bits sm_90 weight 128 -> 256"], False),
        ({"instructions c++": 1001}, True, [], False),  # within the tolerance
        ({"instructions c++": 999}, False, [], False),
        ({"instructions c++": 1002}, False, ["instructions c++ 1000 -> 1002"], True),
        ({"instructions c++": 900}, True, ["instructions c++ 1000 -> 900"], False),
        ({"instructions c++-99": 2000}, True, [], False),  # of another compiler
        ({"launches": 5}, True, [], False),  # there is nothing to compare it with
    ],
)
def test_companions_are_compared_exactly(
    now: dict[str, int], same_compiler: bool, told: list[str], worse: bool
) -> None:
    found = differences(ENTRY.static_metrics, ENTRY.static_metrics | now, same_compiler)
    assert list(map(str, found)) == told
    assert any(difference.worse for difference in found) == worse
