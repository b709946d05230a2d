from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import KNOWN, LanguageModel, load_model, prepare_model
from pytest_sparsity.targets import HardwareTarget

TEXT = "It is a truth universally acknowledged — naïvely."


def logits(model: LanguageModel) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        return model.model(ids).logits


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "my model"))


def test_the_tiny_model_is_the_same_every_time() -> None:
    first, second = (load_model("tiny-random", dtype="float32") for _ in range(2))
    assert first.weights_hash == second.weights_hash
    assert torch.equal(logits(first), logits(second))
    assert first.bos is None
    assert (first.name, first.source) == ("tiny-random", "tiny-random")
    assert len(first.sites) == 21
    assert first.device == torch.device("cpu")
    config = first.model.config
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.hidden_size != config.intermediate_size


def test_the_tiny_tokenizer_gives_one_token_per_byte() -> None:
    tokenizer = load_model("tiny-random").tokenizer
    ids = tokenizer(TEXT)["input_ids"]
    assert len(ids) == len(TEXT.encode())
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer("ab<|end|>")["input_ids"][-1] == tokenizer.eos_token_id == 256


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(tiny_folder: Path) -> None:
    for name in ("tiny-random", str(tiny_folder)):
        model = load_model(name).model
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.config._attn_implementation == "sdpa"


def test_a_folder_gives_the_model_that_was_saved(folder: Path) -> None:
    built, loaded = (
        load_model("tiny-random", dtype="float32"),
        load_model(str(folder), dtype="float32"),
    )
    assert torch.equal(logits(built), logits(loaded))
    assert loaded.name == "my-model"
    assert loaded.source == str(folder)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.weights_hash == prepare_model(str(folder)).weights_hash


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_our_reader_gives_what_transformers_gives(tiny_folder: Path, dtype: str) -> None:
    ours = load_model(str(tiny_folder), dtype=dtype)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    assert ours.dtype == getattr(torch, dtype)
    for kind in ("named_parameters", "named_buffers"):  # rotary angles are float32 in both
        mine, other = (dict(getattr(model, kind)()) for model in (ours.model, theirs))
        assert mine.keys() == other.keys()
        for name, tensor in mine.items():
            assert tensor.dtype == other[name].dtype, name
            assert torch.equal(tensor, other[name]), name
    built = load_model("tiny-random", dtype=dtype)
    assert torch.equal(logits(ours), logits(built))


def test_sharded_and_pickled_weights_are_read(tiny_folder: Path, tmp_path: Path) -> None:
    expected = logits(load_model(str(tiny_folder), dtype="float32"))
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    for name in ("sharded", "pickled"):
        shutil.copytree(
            tiny_folder, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors")
        )
    model.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    for name in ("sharded", "pickled"):
        assert torch.equal(logits(load_model(str(tmp_path / name), dtype="float32")), expected)


def test_the_weights_hash_follows_the_weights_and_nothing_else(folder: Path) -> None:
    before = prepare_model(str(folder)).weights_hash
    (folder / "README.md").write_text("hello")
    assert prepare_model(str(folder)).weights_hash == before
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert prepare_model(str(folder)).weights_hash != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("config.json", '"silu"', '"relu"'), ("tokenizer_config.json", "{", '{"extra": 1,')],
)
def test_the_network_hash_follows_what_says_what_the_weights_do(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = load_model(str(folder), dtype="float32")
    (folder / "README.md").write_text("hello")
    assert load_model(str(folder), dtype="float32").network_hash == before.network_hash
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    after = load_model(str(folder), dtype="float32")
    assert after.network_hash != before.network_hash
    assert after.weights_hash == before.weights_hash


def test_a_gguf_file_is_loaded_with_its_weights(tiny_gguf: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_gguf), dtype="float32", cache=tmp_path)
    built = load_model("tiny-random", dtype="float32")
    assert loaded.name == "tiny-model"
    assert loaded.bos is None
    assert [site.name for site in loaded.sites] == [site.name for site in built.sites]
    for mine, other in zip(loaded.sites, built.sites, strict=True):
        assert mine.module.weight.shape == other.module.weight.shape
        if mine.kind not in "qk":  # whose rows a GGUF file holds in another order
            assert torch.equal(mine.module.weight, other.module.weight), mine.name
    assert loaded.tokenizer("abc")["input_ids"] == built.tokenizer("abc")["input_ids"]


def test_decoding_gives_the_text_back(folder: Path) -> None:
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    configuration["clean_up_tokenization_spaces"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    tokenizer = load_model(str(folder)).tokenizer
    assert tokenizer.decode(tokenizer("a , b .")["input_ids"]) == "a , b ."


def test_a_tokenizer_that_starts_with_bos_says_so(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [256], "tokens": ["<|end|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**configuration, "bos_token": "<|end|>"})
    )
    assert load_model(str(folder)).bos == 256


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bfloat16_where_that_is_fast(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    target = HardwareTarget("cpu", "some CPU", (), 2, 0, fast)
    monkeypatch.setattr("pytest_sparsity.models.loading.resolve_target", lambda name: target)
    assert load_model("tiny-random").dtype == (torch.bfloat16 if fast else torch.float32)
    assert load_model("tiny-random", dtype="float16").dtype == torch.float16


def _remove(*patterns: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return damage


def _configure(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _garble_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _garble_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove("config.json"), "the folder has no config.json; pass a folder written by"),
        (_remove("*.safetensors"), r"the folder has no weights \(model.safetensors, py"),
        (_remove("tokenizer*"), r"the folder has no tokenizer \(one of tokenizer.json,"),
        (
            _configure(architectures=["LlamaForSequenceClassification"]),
            "is a LlamaForSequenceClassification, not a causal language model; pass one that",
        ),
        (
            _configure(model_type="t5", architectures=["T5ForConditionalGeneration"]),
            "is a T5ForConditionalGeneration, not a causal language model",
        ),
        (
            _configure(model_type="no-such-type"),
            "cannot be loaded: .*no-such-type.*; pass a folder",
        ),
        (
            _configure(quantization_config={"quant_method": "gptq", "bits": 4}),
            r"is quantised \(gptq, by its config.json\), .* that with --sparsity-weights$",
        ),
        (
            _configure(hidden_size=128),
            r"cannot be loaded: the tensor \S+\.weight has (shape \[257, 64\], where its "
            r"configuration asks for \[257, 128\]|another shape than .* for); pass a folder",
        ),
        (
            _configure(hidden_act="nosuch"),
            "cannot be loaded: 'nosuch' was looked for and is not kn",
        ),
        (_garble_config, "cannot be loaded: .*JSON.*; pass a folder"),
        (_garble_tokenizer, "cannot be loaded: .*; pass a folder"),
        (_truncate, "cannot be loaded: .*; pass a folder"),
        (_drop_tensor, r"cannot be loaded: the weights lack .*layers\.1\.mlp\.down_proj.weight"),
    ],
)
def test_a_folder_that_is_no_model_is_one_sentence(
    folder: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(folder)
    with pytest.raises(SparsityError, match=rf"^--sparsity-model {folder}:? {said}") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smolm2-135m", "'smolm2-135m' is not a known model; did you mean smollm2-135m? known are"),
        (
            "xyz",
            "'xyz' is not a known model; known are smollm2-135m, gemma3-270m, relu-4m, "
            "tiny-random; or",
        ),
        ("./no/such/folder", "./no/such/folder: no/such/folder does not exist; pass a folder"),
        ("no-such.gguf", "no-such.gguf: no-such.gguf does not exist; pass a folder"),
        (__file__, "test_loading.py is not a GGUF file or a folder; pass a folder"),
    ],
)
def test_an_unknown_name_is_one_sentence(name: str, said: str) -> None:
    with pytest.raises(SparsityError) as caught:
        prepare_model(name)
    assert str(caught.value).startswith("--sparsity-model ")
    assert said in str(caught.value)


def test_weights_that_cannot_be_read_are_one_sentence(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(SparsityError, match=r"model\.safetensors cannot be read: .*; fix the file"):
        prepare_model(str(folder))


def test_a_file_that_only_ends_in_gguf_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"<html>not found</html>")
    with pytest.raises(SparsityError, match=r"x\.gguf is not a GGUF file \(it does not begin"):
        load_model(str(tmp_path / "x.gguf"), cache=tmp_path)


def test_bad_dtypes_and_devices_are_one_sentence() -> None:
    with pytest.raises(SparsityError, match="dtype 'int4' is not known; use auto, bfloat16"):
        load_model("tiny-random", dtype="int4")
    with pytest.raises(SparsityError, match="'tpu' is not a target; use auto, cpu, cuda or"):
        load_model("tiny-random", device="tpu")


def test_licences_are_recorded() -> None:
    assert KNOWN["smollm2-135m"].licence == "Apache-2.0"
    assert KNOWN["smollm2-135m"].notice == ""
    assert "not open source" in KNOWN["gemma3-270m"].notice


@pytest.mark.network
def test_the_default_model_is_real() -> None:
    loaded = load_model("smollm2-135m")
    assert (len(loaded.sites), loaded.bos) == (210, None)
    ids = torch.tensor([loaded.tokenizer("The opposite of hot is")["input_ids"]])
    with torch.no_grad():
        best = loaded.model(ids).logits[0, -1].topk(5).indices
    assert "cold" in [loaded.tokenizer.decode(token).strip() for token in best]
