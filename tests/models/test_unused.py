"""What is in a model's files is what is measured, or an error that names what is not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.models import LanguageModel, load_model, prepare_model
from pytest_sparsity.models.gguf_unused import unused_keys
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer

TOKENS = torch.arange(40)[None]


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.model(TOKENS).logits


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "mine"))


def add(folder: Path, **tensors: torch.Tensor) -> None:
    """Write tensors into the folder's weights; two underscores stand for a dot."""
    path = folder / "model.safetensors"
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({**load_file(path), **named}, path, metadata={"format": "pt"})


# --- which files


def test_a_file_that_transformers_does_not_read_is_named_and_not_read(
    folder: Path, tiny: LanguageModel
) -> None:
    before = prepare_model(str(folder)).weights_hash
    other = {name: 1.2 * tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(other, folder / "other.safetensors")
    with pytest.warns(SparsityWarning, match=r"other\.safetensors in its folder is not read, as"):
        loaded = load_model(str(folder), dtype="float32")
    assert torch.equal(logits(loaded), logits(tiny))
    assert loaded.weights_hash == before


def test_the_index_says_which_shards_are_read(folder: Path, tiny: LanguageModel) -> None:
    (folder / "model.safetensors").unlink()
    tiny_model(1).save_pretrained(folder, max_shard_size="100KB")  # of another seed
    stale = {path.name for path in folder.glob("*.safetensors")}
    tiny.model.save_pretrained(folder, max_shard_size="200KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) < stale | set(index["weight_map"].values())
    spare = folder / "model-00009-of-00009.safetensors"
    shutil.copy(folder / min(index["weight_map"].values()), spare)
    with pytest.warns(SparsityWarning, match=spare.name):
        assert torch.equal(logits(load_model(str(folder), dtype="float32")), logits(tiny))
    (folder / min(index["weight_map"].values())).unlink()
    with pytest.raises(SparsityError, match=r"index\.json names model-0.*, which is not in the fo"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": {"a": 1}}', '{"a": 1, "a": 2}'])
def test_a_damaged_index_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(SparsityError, match=r"^--sparsity-model.* is no index of weights \(.*; wr"):
        load_model(str(folder))


def test_files_of_other_formats_are_no_second_model(folder: Path, tiny: LanguageModel) -> None:
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    torch.save(tiny.model.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(logits(load_model(str(folder), dtype="float32")), logits(tiny))


def test_a_name_that_transformers_does_not_look_for_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(SparsityError, match=r"has no weights \(.*; weights\.safetensors would not"):
        load_model(str(folder))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_torch_save_are_read(
    folder: Path, tiny: LanguageModel, shards: int, zipped: bool
) -> None:
    (folder / "model.safetensors").unlink()
    state = tiny.model.state_dict()
    names = sorted(state)
    files = {f"pytorch_model-{n}.bin": names[n::shards] for n in range(shards)}
    if shards == 1:
        files = {"pytorch_model.bin": names}
    else:
        places = {name: file for file, inside in files.items() for name in inside}
        index = {"metadata": {}, "weight_map": places}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for file, inside in files.items():
        torch.save(
            {name: state[name] for name in inside},
            folder / file,
            _use_new_zipfile_serialization=zipped,
        )
    assert torch.equal(logits(load_model(str(folder), dtype="float32")), logits(tiny))


def test_a_pickle_of_something_else_is_one_sentence(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": {"a": torch.ones(2)}}, folder / "pytorch_model.bin")
    with pytest.raises(
        SparsityError, match=r"loaded: pytorch_model\.bin holds something else than"
    ):
        load_model(str(folder))


# --- which tensors


def biases(folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder)
    config.attention_bias = config.mlp_bias = True
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    del said["attention_bias"], said["mlp_bias"]
    (folder / "config.json").write_text(json.dumps(said))


def spon(folder: Path) -> None:
    model = load_model(str(folder), dtype="float32")
    bias = {"1.o": torch.ones(64)}
    with sparsify(model, Plan("none", 0.0, {}, bias=bias)):
        model.model.save_pretrained(folder)


def fewer_layers(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "num_hidden_layers": 2}))


def untied(folder: Path) -> None:
    add(folder, lm_head__weight=torch.ones(257, 64))


PLACE = "model__layers__0__self_attn__"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (biases, "model.layers.0.mlp.down_proj.bias"),
        (spon, "model.layers.1.self_attn.o_proj.bias"),
        (fewer_layers, "model.layers.2.input_layernorm.weight"),
        (
            lambda folder: add(folder, **{f"{PLACE}q_norm__weight": torch.ones(16)}),
            "model.layers.0.self_attn.q_norm.weight",
        ),
        (
            lambda folder: add(folder, **{f"{PLACE}q_proj__weight_scale": torch.ones(1)}),
            "model.layers.0.self_attn.q_proj.weight_scale",
        ),
    ],
)
def test_tensors_without_a_place_are_named(
    folder: Path, change: Callable[[Path], None], named: str
) -> None:
    change(folder)
    with pytest.raises(SparsityError) as caught:
        load_model(str(folder), dtype="float32")
    said = str(caught.value)
    assert said.startswith(f"--sparsity-model {folder}: its files hold ")
    assert named in said
    assert said.endswith("or measure it without them by --sparsity-allow-unused")
    with pytest.warns(SparsityWarning, match=re.escape(named)):
        load_model(str(folder), dtype="float32", allow_unused=True)


def test_a_head_of_its_own_is_used_or_named(folder: Path, tiny: LanguageModel) -> None:
    untied(folder)
    if transformers.__version__.startswith("4."):
        with pytest.raises(SparsityError, match=r"lm_head\.weight, for which"):
            load_model(str(folder), dtype="float32")
        return
    loaded = load_model(str(folder), dtype="float32")  # version 5 does not tie what differs
    assert not torch.equal(logits(loaded), logits(tiny))
    assert torch.equal(loaded.head.weight, torch.ones(257, 64))


def test_integers_without_a_word_how_are_no_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().amax() / 127
        tensors[name] = (tensors[name] / scale).round().to(torch.int8)
        tensors[f"{name}_scale"] = scale
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(
        SparsityError, match=r"_proj\.weight is stored as int8, where .* quantization"
    ):
        load_model(str(folder))


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    """A folder with two experts."""
    config = transformers.Qwen3MoeConfig(
        vocab_size=257,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=8,
        moe_intermediate_size=8,
        num_experts=2,
        num_experts_per_tok=1,
    )
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def expert(number: int, kind: str = "up") -> str:
    return f"model.layers.0.mlp.experts.{number}.{kind}_proj.weight"


@pytest.mark.parametrize("kinds", [("up",), ("gate", "up", "down")])
def test_an_expert_too_many_is_named(experts: Path, kinds: tuple[str, ...]) -> None:
    plain = logits(load_model(str(experts), dtype="float32"))
    shapes = {"gate": (8, 16), "up": (8, 16), "down": (16, 8)}
    add(experts, **{expert(2, kind): torch.ones(shapes[kind]) for kind in kinds})
    with pytest.raises(SparsityError, match="has no place") as caught:
        load_model(str(experts))
    assert all(expert(2, kind) in str(caught.value) for kind in kinds)
    with pytest.warns(SparsityWarning, match="it is measured without them"):
        loaded = load_model(str(experts), dtype="float32", allow_unused=True)
    assert torch.equal(logits(loaded), plain)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({expert(1): None}, f"the weights lack the tensor {expert(1)}"),
        (
            {expert(1, kind): None for kind in ("gate", "up", "down")},
            f"the weights lack the tensor {expert(1, 'down')}",
        ),
        (
            {expert(1): torch.ones(8, 4)},
            f"the tensor {expert(1)} has shape [8, 4], where those of other experts have [8, 16]",
        ),
    ],
)
def test_an_expert_that_lacks_something_is_named(
    experts: Path, changed: dict[str, Any], said: str
) -> None:
    path = experts / "model.safetensors"
    tensors = {name: t for name, t in {**load_file(path), **changed}.items() if t is not None}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(SparsityError, match=re.escape(said)):
        load_model(str(experts))


def test_stored_angles_are_held_against_the_model(folder: Path) -> None:
    own = load_model(str(folder), dtype="float32").model.model.rotary_emb.inv_freq
    name = "model__layers__0__self_attn__rotary_emb__inv_freq"
    for same in (own, own.half(), own.bfloat16()):
        add(folder, **{name: same})
        load_model(str(folder))
    add(folder, **{name: own / 4})
    with pytest.raises(
        SparsityError, match=r"layers\.0\.self_attn\.rotary_emb\.inv_freq, other ro"
    ):
        load_model(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    config |= {"rope_theta": 1e6}
    (folder / "config.json").write_text(json.dumps(config))
    add(folder, **{name: own})
    with pytest.raises(SparsityError, match=r"mend rope_theta or the scaling there"):
        load_model(str(folder))


def test_angles_before_a_scaling_are_the_models(folder: Path) -> None:
    """As early versions of transformers stored them, which scaled positions."""
    own = load_model(str(folder), dtype="float32").model.model.rotary_emb.inv_freq
    add(folder, model__layers__0__self_attn__rotary_emb__inv_freq=own)
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    config |= {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}}
    (folder / "config.json").write_text(json.dumps(config))
    scaled = load_model(str(folder), dtype="float32").model.model.rotary_emb.inv_freq
    torch.testing.assert_close(scaled, own / 4)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_no_file(folder: Path, file: str) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 12345\n"
    (folder / file).write_text(text)
    with pytest.raises(
        SparsityError, match=rf"{re.escape(file)} is a pointer of Git LFS .*; run `g"
    ):
        load_model(str(folder))
    (folder / "weights.gguf").write_text(text)
    with pytest.raises(SparsityError, match=r"weights\.gguf is a pointer of Git LFS"):
        load_model(str(folder / "weights.gguf"))


def test_weights_that_were_cut_short_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SparsityError, match=r"model\.safetensors is damaged or was cut short \("):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 0),
        ("num_key_value_heads", 0),
        ("num_hidden_layers", 0),
        ("hidden_size", -64),
        ("vocab_size", 0),
        ("head_dim", 0),
        ("rope_theta", 0),
    ],
)
@pytest.mark.parametrize("begin", ["", "tiny:"])
def test_a_size_that_no_model_has_is_one_sentence(
    folder: Path, key: str, value: int, begin: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(SparsityError) as caught:
        load_model(f"{begin}{folder}")
    assert str(caught.value) == (
        f"--sparsity-model {begin}{folder}: {key} in its config.json is {value}, and must be above "
        "0; mend config.json, or download it again"
    )


def test_adapters_in_sub_folders_are_told(folder: Path, tiny: LanguageModel) -> None:
    (folder / "lora" / "speech").mkdir(parents=True)
    save_file({"a": torch.ones(2)}, folder / "lora" / "speech" / "adapter_model.safetensors")
    with pytest.warns(
        SparsityWarning, match=r"\(lora/speech/adapter_model\.safetensors\), which tr"
    ):
        loaded = load_model(str(folder), dtype="float32")
    assert torch.equal(logits(loaded), logits(tiny))


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.bin",
        "adapter_model.default.safetensors",
        "adapter_model-00001-of-00002.safetensors",
        "adapter_config.json",
        "adapter.bin",
    ],
)
def test_adapters_have_many_names(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(SparsityError, match=rf"holds an adapter \({re.escape(name)}\), which woul"):
        load_model(str(folder))


def test_an_adapter_beside_the_weights_is_named(folder: Path, tiny: LanguageModel) -> None:
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(
        SparsityError, match=r"an adapter \(adapter_model\.safetensors\), which woul"
    ):
        load_model(str(folder))
    with pytest.warns(SparsityWarning, match="adapter_model"):
        loaded = load_model(str(folder), dtype="float32", allow_unused=True)
    assert torch.equal(logits(loaded), logits(tiny))


# --- GGUF


def with_more(path: Path, to: Path, tensors: dict[str, torch.Tensor], keys: dict[str, Any]) -> Path:
    """A copy of a GGUF file in float32 with further tensors and keys."""
    import gguf

    reader, writer = gguf.GGUFReader(path), gguf.GGUFWriter(to, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    for name, value in keys.items():
        text = isinstance(value, str)
        kind = gguf.GGUFValueType.STRING if text else gguf.GGUFValueType.FLOAT32
        writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    for name, added in tensors.items():
        writer.add_tensor(name, added.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return to


@pytest.mark.parametrize(
    ("tensors", "keys", "named"),
    [
        ({"blk.1.attn_q.bias": torch.ones(64)}, {}, "blk.1.attn_q.bias"),
        ({"blk.0.ffn_down.bias": torch.ones(64)}, {}, "blk.0.ffn_down.bias"),
        ({"rope_freqs.weight": torch.ones(8)}, {}, "rope_freqs.weight"),
        (
            {},
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            "llama.rope.scaling.factor = 4.0, llama.rope.scaling.type = linear",
        ),
        ({}, {"llama.logit_scale": 2.0}, "llama.logit_scale = 2.0"),
    ],
)
def test_what_a_gguf_file_says_and_transformers_does_not_read_is_named(
    tiny_gguf: Path,
    tmp_path: Path,
    tensors: dict[str, torch.Tensor],
    keys: dict[str, Any],
    named: str,
) -> None:
    path = with_more(tiny_gguf, tmp_path / "more.gguf", tensors, keys)
    cache = tmp_path / "cache"
    for _ in range(2):  # the second finds it converted
        with pytest.raises(SparsityError) as caught:
            load_model(str(path), cache=cache)
        said = f"--sparsity-model {path}: the file holds {named}, which transformers does not read"
        assert str(caught.value).startswith(said)
    with pytest.warns(SparsityWarning, match=re.escape(named)):
        load_model(str(path), cache=cache, allow_unused=True)


def test_scalings_of_rotation_that_scale_nothing_are_let_pass(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    keys = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 1.0}
    path = with_more(tiny_gguf, tmp_path / "more.gguf", {}, keys)
    load_model(str(path), cache=tmp_path / "cache")  # warnings are errors


LLAMA = transformers.LlamaConfig(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=2, rope_theta=500.0, head_dim=16
)
_ORIGINAL = "rope.scaling.original_context_length"
GEMMA = transformers.Gemma3TextConfig(head_dim=32, sliding_window=128)


@pytest.mark.parametrize(
    ("config", "values", "unused"),
    [
        (LLAMA, {"rope.dimension_count": 16, "attention.key_length": 16}, []),
        (LLAMA, {"rope.dimension_count": 8}, ["rope.dimension_count"]),
        (LLAMA, {"attention.head_count": 4, "attention.head_count_kv": [2, 2, 2]}, []),
        (LLAMA, {"attention.head_count_kv": 4}, ["attention.head_count_kv"]),
        (LLAMA, {"rope.freq_base": 500.0, "vocab_size": 7, "context_length": 9}, []),
        (LLAMA, {"rope.freq_base": 10000.0}, ["rope.freq_base"]),
        (LLAMA, {"attention.layer_norm_rms_epsilon": 9.999999974752427e-07}, []),
        (LLAMA, {"attention.layer_norm_rms_epsilon": 1e-5}, ["attention.layer_norm_rms_epsilon"]),
        (LLAMA, {"attention.sliding_window": 64}, ["attention.sliding_window"]),
        (LLAMA, {"rope.scaling.original_context_length": 9, "context_length": 9}, []),
        (LLAMA, {"rope.scaling.original_context_length": 9}, [_ORIGINAL]),
        (LLAMA, {"something.new": 1}, ["something.new"]),
        (GEMMA, {"attention.key_length": 32, "attention.sliding_window": 128}, []),
        (GEMMA, {"rope.freq_base": 1e6}, []),
    ],
)
def test_keys_are_held_against_the_configuration(
    config: Any, values: dict[str, Any], unused: list[str]
) -> None:
    assert unused_keys(values, config) == unused
