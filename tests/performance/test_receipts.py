"""A receipt says what it was measured with, and is stale once those kernels change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.speed.receipts import Receipt, read, receipt, sources_hash, stale, write

RECEIPTS = Path(__file__).parents[2] / "ci" / "receipts"


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    folder = tmp_path / "kernels"
    for backend in ("triton", "cuda"):
        (folder / backend).mkdir(parents=True)
        (folder / backend / "linear.py").write_text("one")
    (folder / "cuda" / "linear.cu").write_text("two")
    return folder


def receipt_of(kernels: Path) -> Receipt:
    sources = {backend: sources_hash(backend, kernels) for backend in ("triton", "cuda")}
    return Receipt("speed", "A GPU", "2026-11-22", "pytest -k x", {"torch": "2.13"}, sources, {})


def test_unchanged_sources_are_not_stale(kernels: Path) -> None:
    found = receipt_of(kernels)
    (kernels / "cuda" / "notes.md").write_text("not a source")
    (kernels / "cpu").mkdir()
    (kernels / "cpu" / "linear.py").write_text("of another backend")
    assert stale(found, kernels) is None


@pytest.mark.parametrize("change", ["edited", "added", "removed", "renamed"])
def test_changed_sources_are_stale(change: str, kernels: Path) -> None:
    found = receipt_of(kernels)
    source = kernels / "cuda" / "linear.cu"
    if change == "edited":
        source.write_text("three")
    elif change == "added":
        (kernels / "cuda" / "more.cuh").write_text("")
    elif change == "removed":
        source.unlink()
    else:
        source.rename(source.with_name("other.cu"))
    assert stale(found, kernels) == (
        "speed on A GPU was measured on 2026-11-22, and kernels/cuda changed since; measure "
        "again: pytest -k x"
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = receipt("linear speed", "NVIDIA H200", "run me", {"torch": None}, ["triton"], {"x": 1.5})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made.when)
    path = write(made, tmp_path)
    assert path.name == "linear-speed-nvidia-h200.json"
    assert read(path) == made
    assert stale(made) is None


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"unknown": 1}'])
def test_what_is_no_receipt(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(SparsityError, match=rf"{re.escape(str(path))} is not a receipt"):
        read(path)


def test_no_receipt_is_stale() -> None:
    found = [stale(read(path)) for path in sorted(RECEIPTS.glob("*.json"))]
    assert not [reason for reason in found if reason]


def test_receipts_are_plain_json(tmp_path: Path) -> None:
    path = write(receipt("a", "b", "c", {}, [], {}), tmp_path)
    assert set(json.loads(path.read_text())) == set(Receipt.__dataclass_fields__)
