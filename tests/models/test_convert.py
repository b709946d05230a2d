from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_file
from pytest_sparsity.models import convert
from pytest_sparsity.models.convert import GgufSource, converted
from pytest_sparsity.models.folder import weights_hash

MAJOR = transformers.__version__.partition(".")[0]


@pytest.fixture
def source(tiny_gguf: Path) -> GgufSource:
    def place(folder: Path) -> Path:
        (folder / "LICENSE").write_text("terms")
        return tiny_gguf

    return GgufSource("tiny", sha256_file(tiny_gguf), place)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the conversion by one that writes two small files; lists what it was given."""
    calls: list[Path] = []

    def fake(gguf: Path, folder: Path, task: object, *, known: bool) -> list[str]:
        calls.append(gguf)
        time.sleep(0.2)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
        return []

    monkeypatch.setattr(convert, "_convert", fake)
    return calls


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "models").iterdir() if p.suffix != ".lock")


def test_a_gguf_file_is_converted_once(
    source: GgufSource, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = converted(source, tmp_path)
    assert first.folder == tmp_path / "models" / f"tiny-{source.sha256[:8]}-transformers{MAJOR}"
    assert (first.folder / "LICENSE").read_text() == "terms"
    assert first.weights_hash == weights_hash(first.folder)
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert manifest["source_sha256"] == source.sha256
    assert manifest["weights"] == ["model.safetensors"]
    assert manifest["dtype"] == "float32"
    assert {"torch", "transformers", "gguf"} == set(manifest["versions"])
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    assert converted(source, tmp_path) == first
    assert (first.folder / "manifest.json").stat().st_mtime_ns == written
    assert entries(tmp_path) == [first.folder.name]
    assert capfd.readouterr() == ("", "")
    # The same bytes again: shipped vectors are found by this hash.
    assert converted(source, tmp_path / "other").weights_hash == first.weights_hash


def _remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _garble_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 1, "files": [')


def _strange_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def _foreign_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))


def _unchecked(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.pop("activation_checked")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _unlisted(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.pop("unused") == []
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _foreign_source(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "source_sha256": "0" * 64}))


def _truncate(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weig")


def _change(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weightz")


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove_manifest, "has no manifest"),
        (_garble_manifest, "has an unreadable manifest"),
        (_strange_manifest, "has an unreadable manifest"),
        (_foreign_version, "was written in format 99, this version reads 1"),
        (_foreign_source, "was made from another GGUF file"),
        (_unchecked, "was made by a version that did not check its activation"),
        (_unlisted, "was made by .* did not check its activation or what is not used"),
        (_truncate, r"holds a missing, truncated or changed file \(model.safetensors\)"),
        (_change, r"holds a missing, truncated or changed file \(model.safetensors\)"),
        (_remove_config, r"holds a missing, truncated or changed file \(config.json\)"),
    ],
)
def test_a_damaged_folder_is_reported_and_made_again(
    source: GgufSource,
    tmp_path: Path,
    cheap: list[Path],
    damage: Callable[[Path], None],
    said: str,
) -> None:
    first = converted(source, tmp_path)
    damage(first.folder)
    with pytest.warns(UserWarning, match=f"{said}.*; it is made again"):
        assert converted(source, tmp_path) == first
    assert len(cheap) == 2
    assert (first.folder / "model.safetensors").read_bytes() == b"weights"


def test_what_the_catalog_knows_needs_no_check(
    source: GgufSource, tmp_path: Path, cheap: list[Path]
) -> None:
    known = replace(source, known=True)
    first = converted(known, tmp_path)
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert not manifest.pop("activation_checked")
    # As it was written by versions that checked none.
    (first.folder / "manifest.json").write_text(json.dumps(manifest))
    assert converted(known, tmp_path) == first
    assert len(cheap) == 1


def test_two_at_once_convert_once(source: GgufSource, tmp_path: Path, cheap: list[Path]) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(converted(source, tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2
    assert found[0] == found[1]
    assert len(cheap) == 1


def test_a_full_disk_leaves_nothing_behind(
    source: GgufSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    with pytest.raises(SparsityError, match=r"cannot write .*: No space left on device; free some"):
        converted(source, tmp_path)
    assert entries(tmp_path) == []


def test_what_a_killed_conversion_left_does_no_harm(
    source: GgufSource, tmp_path: Path, cheap: list[Path]
) -> None:
    staging = tmp_path / "models" / f".tiny-{source.sha256[:8]}-transformers{MAJOR}.staging"
    (staging / "model").mkdir(parents=True)
    (staging / "model" / "model.safetensors").write_bytes(b"half")
    ready = converted(source, tmp_path)
    assert entries(tmp_path) == [ready.folder.name]


def test_a_truncated_gguf_file_is_one_sentence(tiny_gguf: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(tiny_gguf.read_bytes()[:5000])
    with pytest.raises(SparsityError, match=r"bad\.gguf cannot be converted: .*; pass a GGUF"):
        converted(GgufSource("bad", "0" * 64, lambda _: bad), tmp_path)
    assert entries(tmp_path) == []


def test_packages_that_are_missing_are_named(
    source: GgufSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SparsityError, match="needs gguf and accelerate; run `pip install gguf acc"):
        converted(source, tmp_path)
