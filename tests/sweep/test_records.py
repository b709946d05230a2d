"""Records and the file they live in."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace

import pytest

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import InUse
from pytest_sparsity.sweep.record import ForeignRecord, Record
from pytest_sparsity.sweep.store import RecordStore


def test_round_trip(record):
    one = record()
    line = one.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == one
    content = json.loads(line)
    assert (content["schema"], content["id"]) == (1, one.id)
    assert list(content) == sorted(content)


def test_weights(record, configurations):
    compressed = replace(configurations[1], weights="int4")
    one = record(compressed)
    assert Record.from_json(one.to_json()) == one
    assert one.id != record(configurations[1]).id


def test_records_of_before_weights_were_compressed(record):
    content = json.loads(record().to_json())
    assert content["cell"].pop("weights") == "loaded"
    assert Record.from_json(json.dumps(content)) == record()


def test_numbers_survive_to_the_last_bit(record):
    one = record(nll=[[0.1 + 0.2, 1 / 3, 5e-324, 1e300]])
    again = Record.from_json(one.to_json())
    assert again.units[0]["log_likelihoods"] == one.units[0]["log_likelihoods"]


def test_nan_is_not_written(record):
    with pytest.raises(ValueError, match="not JSON compliant"):
        record(nll=[[float("nan")]]).to_json()


def test_id_holds_cell_and_key_and_nothing_else(record, configurations):
    dense, _, spon = configurations
    one = record()
    assert len(one.id) == 16
    assert one.id == record(nll=[[9.0]]).id
    others = [
        record(dense),
        record(spon),
        record(evaluation="perplexity:jargon"),
        record(key={"weights": "w", "seed": 1}),
        record(key={"weights": "w", "seed": 0, "more": None}),
    ]
    assert len({r.id for r in [one, *others]}) == 6
    assert record(key={"seed": 0, "weights": "w"}).id == one.id


@pytest.mark.parametrize(
    "line", ['{"schema": 2}', '{"schema": "1"}', "{}", "[1]", "3", "null", '{"schema": null}']
)
def test_foreign_line(line):
    with pytest.raises(ForeignRecord, match="not 1"):
        Record.from_json(line)


@pytest.mark.parametrize("lost", ["id", "cell", "key", "measured", "cost", "when"])
def test_incomplete_line(record, lost):
    content = json.loads(record().to_json())
    del content[lost]
    with pytest.raises(ValueError, match="incomplete record"):
        Record.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("measured", {}),
        ("measured", 3),
        ("measured", {"documents": []}),
        ("key", {"weights": "other"}),
        ("key", 3),
        ("cell", {"model": "m"}),
    ],
)
def test_altered_line(record, part, value):
    content = {**json.loads(record().to_json()), part: value}
    with pytest.raises(ValueError, match=r".") as caught:
        Record.from_json(json.dumps(content))
    assert not isinstance(caught.value, ForeignRecord)


def test_store_finds_what_was_appended(tmp_path, record, configurations):
    store = RecordStore(tmp_path / "new" / "folder")
    one, two = record(), record(configurations[0])
    assert store.find(one.id) is None
    store.append(one)
    store.append(two)
    assert store.find(one.id) == one
    assert list(store) == [one, two]
    assert list(RecordStore(store.folder)) == [one, two]
    assert (store.folder / ".gitignore").read_text() == "*\n"


def test_store_sees_what_others_append(tmp_path, record):
    one, other = RecordStore(tmp_path), RecordStore(tmp_path)
    one.append(record())
    assert other.find(record().id) == record()


@pytest.mark.parametrize("order", [1, -1])
def test_store_keeps_the_record_with_most_data(tmp_path, record, order):
    store = RecordStore(tmp_path)
    more = record(nll=[[1.0], [2.0], [3.0]])
    for one in [record(), more][::order]:
        store.append(one)
    assert store.find(more.id) == more
    assert RecordStore(tmp_path).find(more.id) == more


def test_incomplete_last_line_is_ignored_and_cut_off(tmp_path, record, configurations):
    store = RecordStore(tmp_path)
    store.append(record())
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + b'{"schema": 1, "cell": {"mod')
    again = RecordStore(tmp_path)
    assert list(again) == [record()]
    again.append(record(configurations[0]))
    lines = store.path.read_bytes().splitlines(keepends=True)
    assert lines[0] == whole
    assert len(lines) == 2
    assert list(RecordStore(tmp_path)) == [record(), record(configurations[0])]


def test_file_of_one_incomplete_line(tmp_path, record):
    (tmp_path / "records.jsonl").write_bytes(b'{"schema"' + b" " * 200_000)
    store = RecordStore(tmp_path)
    assert list(store) == []
    store.append(record())
    assert list(RecordStore(tmp_path)) == [record()]


@pytest.mark.parametrize("bad", [b"", b"garbage", b"\xff\xfe", b'{"schema": 1}', b"{\x0b}"])
def test_damaged_line_is_named_and_skipped(tmp_path, record, configurations, bad):
    store = RecordStore(tmp_path)
    store.append(record())
    with store.path.open("ab") as stream:
        stream.write(bad + b"\n")
    with pytest.warns(SparsityWarning, match=r"records\.jsonl is damaged in line 2: ignored"):
        store.append(record(configurations[0]))
    assert list(store) == [record(), record(configurations[0])]
    with pytest.warns(SparsityWarning, match="in line 2: ignored"):
        assert list(RecordStore(tmp_path)) == list(store)


def test_foreign_line_is_refused(tmp_path, record):
    store = RecordStore(tmp_path)
    store.append(record())
    with store.path.open("a") as stream:
        stream.write('{"schema": 7}\n')
    with pytest.raises(SparsityError, match=r"line 2 .* \(schema 7, not 1\); choose another"):
        RecordStore(tmp_path)


@pytest.mark.parametrize("broken", ["fsync", "write"])
def test_full_disk_while_appending(tmp_path, record, configurations, monkeypatch, broken):
    store = RecordStore(tmp_path)
    store.append(record())
    before = store.path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SparsityError, match=r"cannot write .*: No space left on"):
            store.append(record(configurations[0]))
    else:  # /dev/full refuses every byte
        monkeypatch.setattr(store, "path", tmp_path / "full")
        store.path.symlink_to("/dev/full")
        with pytest.raises(SparsityError, match="cannot write"):
            store.append(record(configurations[0]))
        store.path = tmp_path / "records.jsonl"
    monkeypatch.undo()
    assert store.path.read_bytes() == before
    store.append(record(configurations[0]))
    assert list(RecordStore(tmp_path)) == [record(), record(configurations[0])]


def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "records.jsonl").mkdir()
    with pytest.raises(SparsityError, match=r"cannot read .*--sparsity-report"):
        RecordStore(tmp_path)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SparsityError, match=r"cannot write .*file/below.*--sparsity-report"):
        RecordStore(tmp_path / "file" / "below")


def test_a_claim_keeps_others_waiting(tmp_path):
    store = RecordStore(tmp_path)
    order = []

    def other():
        with store.claim("x"):
            order.append("other")

    with store.claim("x"):
        thread = threading.Thread(target=other)
        thread.start()
        with store.claim("y"):
            thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_who_does_not_wait_is_told(tmp_path):
    store = RecordStore(tmp_path)
    with store.claim("x"):
        with pytest.raises(InUse), store.claim("x", wait=False):
            pytest.fail("held twice")
        with store.claim("y", wait=False):
            pass
    with store.claim("x", wait=False):
        pass
