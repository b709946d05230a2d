"""ci/neuron_rules.py sets the two rules side by side, or says in one sentence why it cannot."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.store import RecordStore

SCRIPT = Path(__file__).parents[2] / "ci" / "neuron_rules.py"
KEY = {
    "dtype": "bfloat16",
    "seed": 0,
    "prefill": "first:1",
    "target": "machine-1",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "method": {"predictor": {"share": 0.1, "tokens": 65536}},
}


@pytest.fixture(scope="module")
def main() -> Iterator[Callable[[list[str]], int]]:
    spec = importlib.util.spec_from_file_location("neuron_rules_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    yield module.main
    del sys.modules[spec.name]


def _record(method: str, level: float, harm: float, achieved: Any = None) -> Record:
    """Of eight documents of ten tokens, each of which costs 3 nats and ``harm``."""
    documents = [
        {
            "id": f"d{number}",
            "tokens": 10,
            "log_likelihoods": [-(3.0 + harm * (1 + number / 100))] * 10,
            "kl": 10 * harm,
            "agreement": 5,
        }
        for number in range(8)
    ]
    measured = {"documents": documents}
    if achieved is not None:
        weighted, net, neurons = achieved
        measured["achieved"] = {"weighted": weighted, "net": net, "neurons": neurons}
    cell = Cell(Configuration("m", method, level), "perplexity:austen")
    key = KEY if method != "dense" else {**KEY, "method": None}
    return Record(cell, key, measured, {"seconds": 1.0, "tokens": 80}, "2026-01-01T00:00:00+00:00")


def _report(folder: Path, *records: Record) -> Path:
    store = RecordStore(folder)
    for record in records:
        store.append(record)
    return folder


def test_both_rules_are_set_side_by_side(
    main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = _report(
        tmp_path / "report",
        _record("dense", 0.0, 0.0),
        _record("powerinfer", 0.5, 0.1, (0.33, 0.29, 0.49)),
        _record("powerinfer", 0.6, 0.2, (0.39, 0.35, 0.59)),
        _record("deja_vu", 0.25, 0.1, (0.165, 0.125, 0.25)),
        _record("deja_vu", 0.5, 0.3, (0.36, 0.32, 0.54)),
        _record("deja_vu", 0.6, 0.5, (0.40, 0.36, 0.60)),
        _record("teal", 0.5, 0.5, (0.5, 0.5, None)),
        _record("exact_zeros", 0.0, 0.0, (0.2, 0.2, 0.3)),
    )
    assert main([str(report), "--docs", str(tmp_path)]) == 0
    text = (tmp_path / "powerinfer.md").read_text()
    assert "dense perplexity 20.1" in text  # e^3
    assert "trained on at most 65,536 tokens" in text
    table = [line.replace("\\", "") for line in text.splitlines() if line.startswith("|")]
    (one,) = [line for line in table if line.startswith("| powerinfer-0.50")]
    assert [cell.strip() for cell in one.split("|")[1:5]] == [
        "powerinfer-0.50",
        "49.0 %",
        "33.0 %",
        "29.0 %",
    ]
    assert "teal" not in text  # it skips no neurons
    # Half-way between two levels the one threshold costs 0.15 nats, and half-way to dense 0.05,
    # each times 1.035: exp(0.15 times 1.035) and exp(0.05 times 1.035).  Beyond 0.39 is nothing.
    pairs = {
        cells[1].strip(): cells[3].strip()
        for line in table
        if len(cells := line.split("|")) == 5 and "%" in line
    }
    assert {level: change.split()[0] for level, change in pairs.items()} == {
        "0.25": "+5.3",
        "0.5": "+16.8",
    }
    assert next(line.split("|")[1].strip() for line in table if "%" in line) == "exact_zeros"
    svg = (tmp_path / "powerinfer" / "m-austen.svg").read_bytes()
    assert svg.startswith(b"<?xml")
    assert main([str(report), "--docs", str(tmp_path)]) == 0
    assert (tmp_path / "powerinfer" / "m-austen.svg").read_bytes() == svg


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((), "has no records.jsonl"),
        ((_record("teal", 0.5, 0.1, (0.5, 0.5, None)),), "has no perplexity of the method"),
    ],
)
def test_a_folder_without_them_is_one_sentence(
    main: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    records: tuple[Record, ...],
    said: str,
) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    if records:
        _report(folder, *records)
    assert main([str(folder), "--docs", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "powerinfer.md").exists()
