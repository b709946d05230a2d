"""pytest-sparsity train predictors: what it writes is read back as PowerInfer's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pytest_sparsity.cli.main import main
from pytest_sparsity.methods.given.given import read_given

WORDS = ("train", "predictors", "--model", "tiny-random")


@pytest.mark.slow
def test_both_formats(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    out, gguf = tmp_path / "out", tmp_path / "tiny.powerinfer.gguf"
    where = (f"--out={out}", f"--gguf={gguf}", f"--cache={tmp_path / 'cache'}")
    words = ("train", "predictors", "--model", str(model_folder))
    assert main([*words, *where, "--level", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: predictors of 3 layers, and activation/",
        f"{gguf}: saved with predictors of 3 layers",
    ]
    found = read_given(out)
    assert found.kinds == {"powerinfer", "frequencies"}
    assert found.predictors is not None
    assert list(found.predictors.layers) == [0, 1, 2]
    assert found.predictors.threshold is not None
    assert {p.dtype for pair in found.predictors.layers.values() for p in pair} == {torch.float16}
    assert gguf.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to write: name a folder with --out, a file with --gguf, or both"),
        (["--out=x", "--level=2"], "--level '2': a level is a fraction"),
        (["--out=x", "--dtype=int8"], "--dtype 'int8': use one of auto, bfloat16"),
    ],
)
def test_mistakes(refused: Callable[..., str], words: list[str], sentence: str) -> None:
    assert sentence in refused(*WORDS, *words)
    assert not Path("x").exists()


@pytest.mark.parametrize("option", ["--out", "--gguf"])
def test_what_cannot_be_written_is_told_before_the_training(
    refused: Callable[..., str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    found = refused(*WORDS, f"{option}={tmp_path / 'file' / 'below' / 'x.gguf'}", code=11)
    assert found.startswith(f"ERROR: {option} {tmp_path / 'file'}")
