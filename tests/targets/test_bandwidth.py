from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_sparsity.targets import Cache, HardwareTarget, bandwidth

HOST = HardwareTarget("cpu", "some CPU", (), 4, 64 << 30, False, caches=(Cache(3, 32 << 20, 2),))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Takes the place of measuring, and says what would have been measured."""
    made: list[tuple[int, int]] = []

    def read(threads: int, size: int) -> float:
        made.append((threads, size))
        return 1e9 * threads

    monkeypatch.setattr(bandwidth, "read_bandwidth", read)
    return made


def test_a_small_buffer_is_read() -> None:
    """Megabytes are in a cache; it is not the number that is tested here."""
    assert 1e8 < bandwidth.read_bandwidth(1, 1 << 20, rounds=2) < 1e13
    assert 1e8 < bandwidth.read_bandwidth(2, 1 << 20, rounds=2) < 1e13


def test_kept_for_the_day(readings: list[tuple[int, int]], tmp_path: Path) -> None:
    assert bandwidth.measured(HOST, folder=tmp_path) == 4e9
    assert bandwidth.measured(HOST, folder=tmp_path) == 4e9
    assert bandwidth.measured(HOST, 1, tmp_path) == 1e9
    assert bandwidth.measured(HOST, 99, tmp_path) == 4e9  # of four cores
    assert readings == [(4, 256 << 20), (1, 256 << 20)]
    path = tmp_path / "bandwidth.json"
    content = json.loads(path.read_text())
    assert sorted(content["bytes_per_second"].values()) == [1e9, 4e9]
    path.write_text(json.dumps({**content, "day": "2001-01-01"}))
    assert bandwidth.measured(HOST, folder=tmp_path) == 4e9
    assert len(readings) == 3


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"day": 3}', '{"day": "TODAY", "bytes_per_second": [1]}'],
)
def test_a_damaged_file_is_measured_again(
    readings: list[tuple[int, int]], tmp_path: Path, text: str
) -> None:
    bandwidth.measured(HOST, folder=tmp_path)
    path = tmp_path / "bandwidth.json"
    today = json.loads(path.read_text())["day"]
    path.write_text(text.replace("TODAY", today))
    assert bandwidth.measured(HOST, folder=tmp_path) == 4e9
    assert len(readings) == 2


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "Infinity"])
def test_an_impossible_value_is_measured_again(
    readings: list[tuple[int, int]], tmp_path: Path, value: str
) -> None:
    bandwidth.measured(HOST, folder=tmp_path)
    path = tmp_path / "bandwidth.json"
    path.write_text(path.read_text().replace("4000000000.0", value))
    assert bandwidth.measured(HOST, folder=tmp_path) == 4e9
    assert len(readings) == 2


def test_a_folder_that_cannot_be_written(readings: list[tuple[int, int]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert bandwidth.measured(HOST, folder=tmp_path / "file") == 4e9
    assert bandwidth.measured(HOST, folder=tmp_path / "file") == 4e9
    assert len(readings) == 2


def test_the_buffer_is_several_caches_and_a_part_of_memory() -> None:
    size = bandwidth.buffer_bytes
    assert size(HOST) == 4 * 64 << 20
    assert size(HardwareTarget("cpu", "no caches known", (), 1, 0, False)) == 128 << 20
    assert size(HardwareTarget("cpu", "small", (), 1, 512 << 20, False)) == 64 << 20
    big = HardwareTarget("cpu", "big", (), 1, 1 << 40, False, caches=(Cache(3, 1 << 30, 2),))
    assert size(big) == 2 << 30


def test_the_target_knows_its_bandwidth(
    readings: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth, "default_cache", lambda: tmp_path)
    assert HOST.bandwidth == 4e9
    gpu = HardwareTarget("cuda", "some GPU", ("sm_90",), 132, 80 << 30, True, 1)
    monkeypatch.setattr(bandwidth, "copy_bandwidth", lambda index: 3e12 + index)
    assert gpu.bandwidth == 3e12 + 1
    assert len(readings) == 1
