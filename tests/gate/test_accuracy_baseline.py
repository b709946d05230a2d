"""The stored records: read strictly, written atomically."""

from __future__ import annotations

import json

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.sweep.baseline import FILE, read_records, write_records
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record


def make(evaluation: str = "perplexity:austen", seed: int = 0, value: float = -1.0) -> Record:
    units = [{"id": "d", "tokens": 1, "log_likelihoods": [value], "kl": 0.0, "agreement": 1}]
    cell = Cell(Configuration("m", "teal", 0.5), evaluation)
    return Record(cell, {"seed": seed}, {"documents": units}, {}, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def stored(tmp_path):
    """A folder with two records."""
    write_records(tmp_path, [make(), make("perplexity:factbook")])
    return tmp_path


def change(folder, line: int, **fields) -> None:
    lines = (folder / FILE).read_text().splitlines()
    content = {**json.loads(lines[line]), **fields}
    lines[line] = json.dumps(content)
    (folder / FILE).write_text("\n".join(lines) + "\n")


def test_read_what_was_written(stored):
    found = read_records(stored)
    assert [cell.evaluation for cell in found] == ["perplexity:austen", "perplexity:factbook"]
    assert found[make().cell] == make()


def test_last_record_of_a_cell_counts(stored):
    with (stored / FILE).open("a") as stream:
        stream.write(make(seed=3).to_json() + "\n")
    assert read_records(stored)[make().cell].key == {"seed": 3}


def test_write_keeps_other_cells(stored):
    assert write_records(stored, [make(seed=1)]) == 1
    assert [r.key["seed"] for r in read_records(stored).values()] == [1, 0]


def test_write_new_only(stored):
    fresh = [make(seed=1), make("perplexity:other", seed=1)]
    assert write_records(stored, fresh, new_only=True) == 1
    assert {c.subject: r.key["seed"] for c, r in read_records(stored).items()} == {
        "austen": 0,
        "factbook": 0,
        "other": 1,
    }


def test_folder_without_records(tmp_path):
    assert read_records(tmp_path) == {}


def test_missing_folder(tmp_path):
    with pytest.raises(SparsityError, match=r"no such folder; make it with --sparsity-update"):
        read_records(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_truncated(stored, kept):
    path = stored / FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SparsityError, match=r"records\.jsonl: its last line is incomplete"):
        read_records(stored)


def test_empty(stored):
    (stored / FILE).write_text("")
    with pytest.raises(SparsityError, match="it is empty"):
        read_records(stored)


@pytest.mark.parametrize(
    "content", ["hello\n", "[1]\n", '{"a": 1}\n', "\n", b"\xff\xfe\n", '{"schema": 0}\n']
)
def test_foreign(stored, content):
    path = stored / FILE
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SparsityError, match=r"line 1 is (no record|damaged)"):
        read_records(stored)


def test_schema_from_the_future(stored):
    change(stored, 1, schema=7)
    with pytest.raises(SparsityError, match=r"line 2 has schema 7 and this version reads 1.*newer"):
        read_records(stored)


def test_damaged_record(stored):
    change(stored, 0, key={"seed": 5})  # its id is that of another key
    with pytest.raises(SparsityError, match="line 1 is damaged"):
        read_records(stored)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "1"])
def test_impossible_values(stored, value):
    units = [{**make().units[0], "log_likelihoods": [value]}]
    change(stored, 0, measured={"documents": units})
    with pytest.raises(SparsityError, match="line 1 is damaged"):
        read_records(stored)


def test_damaged_baseline_is_not_overwritten(stored):
    path = stored / FILE
    path.write_bytes(path.read_bytes()[:-5])
    before = path.read_bytes()
    with pytest.raises(SparsityError, match="incomplete"):
        write_records(stored, [make()])
    assert path.read_bytes() == before
