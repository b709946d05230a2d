"""Code that comes with a model is named, and run only where it is trusted and needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel, load_model

CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig

Path({ran!r}).touch()


class MineConfig(LlamaConfig):
    model_type = "mine"
"""
MODELING = """
from transformers import LlamaForCausalLM

from .configuration_mine import MineConfig


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits.flip(-1)
        return output
"""
TOKENIZATION = """
from transformers import PreTrainedTokenizerFast


class MineTokenizer(PreTrainedTokenizerFast):
    pass
"""


def change(path: Path, **said: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as one whose code gives the logits in reverse order."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    found = Path(shutil.copytree(tiny_folder, tmp_path / "mine"))
    (found / "configuration_mine.py").write_text(CONFIGURATION.format(ran=str(tmp_path / "ran")))
    (found / "modeling_mine.py").write_text(MODELING)
    places = {
        "AutoConfig": "configuration_mine.MineConfig",
        "AutoModelForCausalLM": "modeling_mine.MineForCausalLM",
    }
    change(
        found / "config.json",
        model_type="mine",
        architectures=["MineForCausalLM"],
        auto_map=places,
    )
    return found


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.model(torch.arange(20)[None]).logits


def test_code_that_is_needed_is_named_and_not_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SparsityError) as caught:
        load_model(str(folder))
    assert str(caught.value) == (
        f"--sparsity-model {folder} cannot be loaded without code that comes with it: "
        "configuration_mine.py (MineConfig), modeling_mine.py (MineForCausalLM); read it, and pass "
        "--sparsity-trust-remote-code to run it on this machine, or pass a model whose class "
        "transformers has"
    )
    assert not (tmp_path / "ran").exists()


def test_code_that_is_trusted_is_run_and_hashed(
    folder: Path, tmp_path: Path, tiny: LanguageModel
) -> None:
    loaded = load_model(str(folder), dtype="float32", trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert type(loaded.model).__name__ == "MineForCausalLM"
    assert torch.equal(logits(loaded), logits(tiny).flip(-1))
    with (folder / "modeling_mine.py").open("a") as stream:
        stream.write("# another version\n")
    again = load_model(str(folder), dtype="float32", trust_remote_code=True)
    assert again.network_hash != loaded.network_hash
    assert again.weights_hash == loaded.weights_hash


@pytest.mark.parametrize("trusted", [False, True])
def test_code_is_not_run_where_transformers_has_the_class(
    folder: Path, tmp_path: Path, tiny: LanguageModel, trusted: bool
) -> None:
    change(folder / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    loaded = load_model(str(folder), dtype="float32", trust_remote_code=trusted)
    assert torch.equal(logits(loaded), logits(tiny))
    assert not (tmp_path / "ran").exists()


def test_a_class_that_the_type_does_not_tell_of_is_named(folder: Path) -> None:
    change(folder / "config.json", model_type="llama")
    with pytest.raises(
        SparsityError, match=r"comes with it: modeling_mine\.py \(MineForCausalLM\);"
    ):
        load_model(str(folder))


def test_a_tokenizer_of_its_own_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "cut"))
    (folder / "tokenization_mine.py").write_text(TOKENIZATION)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="MineTokenizer",
        auto_map={"AutoTokenizer": [None, "tokenization_mine.MineTokenizer"]},
    )
    with pytest.raises(
        SparsityError, match=r"with it: tokenization_mine\.py \(MineTokenizer\); re"
    ):
        load_model(str(folder))


def test_a_type_without_any_code_is_not_known(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_text())
    del said["auto_map"]
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(SparsityError, match=r"cannot be loaded: .*mine.*; pass a folder"):
        load_model(str(folder), trust_remote_code=True)
