"""How far the cells of claims are, told from the report folder."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_sparsity.claims import cell_progress
from pytest_sparsity.claims.cell_progress import CellProgress
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.code_hash import code_hash
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.store import RecordStore

CELLS = [Cell(Configuration("m"), f"perplexity:{corpus}") for corpus in "abcd"]


def append(folder, cell, seed=0, code=None) -> None:
    key = {"seed": seed, "code": code or code_hash()}
    cost = {"seconds": 1.0, "tokens": 1}
    RecordStore(folder).append(
        Record(cell, key, {"documents": [{"id": "d0"}]}, cost, "2026-01-01T00:00:00")
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since something, which only the test lets pass."""
    now = [100.0]
    monkeypatch.setattr(cell_progress.time, "monotonic", lambda: now[0])
    return now


def test_counts_what_is_new_and_told_once(tmp_path, clock) -> None:
    append(tmp_path, CELLS[0])  # of a run before
    told: list[str] = []
    found = CellProgress(RecordStore(tmp_path), [*CELLS, CELLS[0]], 0, told.append)
    found.update()
    assert told == []
    assert found.eta() is None

    append(tmp_path, CELLS[1])
    clock[0] += 60
    found.update()
    found.update()
    assert told == ["2 of 4 cells measured  eta 2:00"]
    assert found.eta() == 120

    append(tmp_path, CELLS[2])
    clock[0] += 20
    assert found.eta() == 40
    found.update()
    assert told[1:] == ["3 of 4 cells measured  eta 0:40"]


def test_other_seeds_code_and_cells_do_not_count(tmp_path, clock) -> None:
    told: list[str] = []
    found = CellProgress(RecordStore(tmp_path), CELLS, 0, told.append)
    append(tmp_path, CELLS[0], seed=1)
    append(tmp_path, CELLS[1], code="of before")
    append(tmp_path, Cell(Configuration("m"), "perplexity:e"))
    clock[0] += 60
    found.update()
    assert told == []


def test_thread_tells_until_it_is_stopped(tmp_path) -> None:
    told, heard = [], threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        heard.set()

    found = CellProgress(RecordStore(tmp_path), CELLS, 0, tell, every=0.01)
    found.start()
    append(tmp_path, CELLS[0])
    assert heard.wait(30)
    found.stop()
    append(tmp_path, CELLS[1])
    time.sleep(0.1)
    assert len(told) == 1
    assert told[0].startswith("1 of 4 cells measured  eta ")
