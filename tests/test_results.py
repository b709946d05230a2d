"""Readers of report folders: what was written is what is read, or one sentence says why not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pytest_sparsity import SparsityError, results
from pytest_sparsity.core.decision import Decision
from pytest_sparsity.reporting import kernels
from pytest_sparsity.reporting.gate import gate_json

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def report(finished_report: Path) -> Path:
    return finished_report


def test_records_of_a_run(report: Path) -> None:
    lines = (report / "records.jsonl").read_text().splitlines()
    found = results.read_records(report)
    assert {record.id for record in found} == {json.loads(line)["id"] for line in lines}
    assert all(record.units for record in found)


def test_metrics_of_a_run(report: Path) -> None:
    content = json.loads((report / "summary.json").read_text())
    found = results.read_metrics(str(report))
    assert [m.name for m in found] == [m["metric"] for m in content["metrics"]]
    dense = next(m for m in found if m.configuration.endswith("-dense"))
    assert (dense.change, dense.outcome, dense.budget) == (None, "reference", None)
    sparse = next(m for m in found if m.change is not None)
    assert sparse.change is not None
    assert sparse.change.low <= sparse.change.estimate <= sparse.change.high
    assert sparse.value.n == sparse.change.n > 0


def test_what_is_not_finite_is_nan(report: Path, tmp_path: Path) -> None:
    content = json.loads((report / "summary.json").read_text())
    content["metrics"][0]["value"]["high"] = None
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert math.isnan(results.read_metrics(tmp_path)[0].value.high)


def test_a_gate(tmp_path: Path) -> None:
    decided = {
        "kind": "speed",
        "id": "a/b",
        "decision": "ok",
        "reason": "fine",
        "figures": {"x": 1},
    }
    worse = decided | {"id": "a/c", "decision": "regressed", "source": "f.py:3"}
    (tmp_path / "gate.json").write_text(gate_json("fail", [decided, worse], ["a/d"], "HEAD"))
    found = results.read_gate(tmp_path)
    assert (found.mode, found.against, found.without_baseline) == ("fail", "HEAD", ("a/d",))
    assert [d.decision for d in found.decisions] == [Decision.REGRESSED, Decision.OK]
    assert found.decisions[0].source == "f.py:3"
    assert found.decisions[1].source is None


def test_checks_of_kernels(tmp_path: Path) -> None:
    outcome = {
        "kernel": "a/b",
        "check": "fuzz",
        "status": "failed",
        "message": "is off",
        "case": "rows=1",
        "examples": 3,
        "tolerance": 1.5,
        "element": None,
        "figures": [],
    }
    kernels.add(tmp_path, {"seed": 0}, [outcome])
    (found,) = results.read_checks(tmp_path)
    assert (found.kernel, found.check, found.status) == ("a/b", "fuzz", "failed")
    assert (found.case, found.examples, found.tolerance) == ("rows=1", 3, 1.5)


READERS = {
    "records.jsonl": results.read_records,
    "summary.json": results.read_metrics,
    "gate.json": results.read_gate,
    "kernels.jsonl": results.read_checks,
    "findings.jsonl": results.read_findings,
}


@pytest.mark.parametrize("name", READERS)
def test_a_folder_without_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match=rf"cannot read .*{name}: No such file"):
        READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 99}\n', "schema 99, not"),
        ('{"schema"\n', "damaged|holds no finding"),
        ("[1]\n", "damaged|holds no finding|another version"),
    ],
)
def test_other_versions_and_damage(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SparsityError, match=words):
        READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_a_newer_schema_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    text = (GOLDEN / name).read_text()
    schema = "2" if name == "summary.json" else "1"
    newer = text.replace(f'"schema": {schema}', '"schema": 99')
    assert newer != text
    (tmp_path / name).write_text(newer)
    with pytest.raises(SparsityError, match=rf"{name}.*version \(.*schema 99, not") as told:
        READERS[name](tmp_path)
    assert "\n" not in str(told.value)


def test_a_line_that_was_cut_off_is_left_out(report: Path, tmp_path: Path) -> None:
    whole = (report / "records.jsonl").read_text()
    (tmp_path / "records.jsonl").write_text(whole + whole[: len(whole) // 3].split("\n")[-1])
    assert len(results.read_records(tmp_path)) == len(results.read_records(report))
