"""Shrunk twins: every kind of layer, sane activations, the same every time, and how one is asked
for.  tests/models/test_families.py takes every architecture through what is measured on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import load_model, prepare_model
from pytest_sparsity.models.prepare import short_name
from pytest_sparsity.models.twin_layers import fewer_layers
from pytest_sparsity.models.twin_loading import causal_config
from pytest_sparsity.models.twins import TOKENS, plain_config, random_model, shrunk_config

TEXT = torch.randint(0, 256, (1, 40), generator=torch.Generator().manual_seed(0))


def twin(kind: str, **changes: Any) -> Any:
    """The model of a configuration, in small; skips what this transformers does not know."""
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    config = plain_config(transformers.CONFIG_MAPPING[kind])
    for key, value in changes.items():
        setattr(config, key, value)
    return twin_of(causal_config(config, kind))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=TEXT).logits
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "llama",
        "gpt2",
        "bloom",
        "qwen3_moe",
        "deepseek_v3",
        "jamba",
        "falcon_h1",
        "mamba2",
        "llama4",
    ],
)
def test_a_twin_is_small_and_its_activations_are_sane(kind: str) -> None:
    model = twin(kind)
    assert sum(p.numel() for p in model.parameters()) < 600_000
    found = logits(model)
    assert found.shape[-1] >= TOKENS
    assert 0.3 < float(found.std()) < 10
    # No one token whatever the text: half of the weights make no difference then.
    assert len(found.argmax(-1).unique()) > 5


def test_the_seed_makes_the_weights_and_leaves_the_generator_alone() -> None:
    config = shrunk_config(transformers.MixtralConfig())
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, same, other = (random_model(config, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[key]), key
    assert not torch.equal(logits(one), logits(other))


def test_the_configuration_that_is_shrunk_stays_as_it_is() -> None:
    config = transformers.Gemma2Config()
    before = config.to_dict()
    shrunk_config(config)
    assert config.to_dict() == before


def test_every_kind_of_layer_is_in_the_twin() -> None:
    kinds = ["a", "a", "b", "a", "c", "b"]
    config = {
        "num_hidden_layers": 6,
        "layer_types": kinds,
        "first_k_dense_replace": 1,
        "num_kv_shared_layers": 1,
        "mlp_only_layers": [3],
        "per_layer_config": {"04": {"head_dim": 512}},
        "intermediate_size": [8, 8, 8, 8, 8, 8],
    }
    assert fewer_layers(config) == {
        "num_hidden_layers": 6,
        "layer_types": kinds,
        "first_k_dense_replace": 1,
        "num_kv_shared_layers": 1,
        "mlp_only_layers": [3],
        "per_layer_config": {4: {"head_dim": 512}},
        "intermediate_size": [8, 8, 8, 8, 8, 8],
    }
    plain = {"num_hidden_layers": 6, "layer_types": kinds}
    assert fewer_layers(plain) == {"num_hidden_layers": 3, "layer_types": ["a", "b", "c"]}
    assert fewer_layers({"n_layer": 24}) == {"n_layer": 2}
    assert fewer_layers({"n_layer": 1}) == {"n_layer": 1}
    assert fewer_layers({}) == {}
    moved = {"num_hidden_layers": 8, "mlp_only_layers": [5], "first_k_dense_replace": 3}
    assert fewer_layers(moved) == {
        "num_hidden_layers": 3,
        "mlp_only_layers": [2],
        "first_k_dense_replace": 1,
    }


def test_angles_fit_the_smaller_heads() -> None:
    config = transformers.Phi3Config(
        original_max_position_embeddings=4096,
        max_position_embeddings=131072,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0 + 0.01 * each for each in range(48)],
            "long_factor": [1.0 + each for each in range(48)],
        },
    )
    model = twin_of(config)
    rope = model.config.to_dict().get("rope_parameters") or model.config.rope_scaling
    assert len(rope["long_factor"]) == len(rope["short_factor"]) == 8
    assert rope["long_factor"][0] == 1.0
    assert rope["long_factor"][-1] == 43.0
    assert torch.isfinite(logits(model)).all()


def test_groups_of_keys_stay_groups() -> None:
    many = shrunk_config(transformers.LlamaConfig(num_attention_heads=32, num_key_value_heads=32))
    some = shrunk_config(transformers.LlamaConfig(num_attention_heads=32, num_key_value_heads=8))
    one = shrunk_config(transformers.LlamaConfig(num_attention_heads=32, num_key_value_heads=1))
    odd = shrunk_config(
        transformers.LlamaConfig(hidden_size=192, num_attention_heads=3, num_key_value_heads=3)
    )
    heads = [(c.num_attention_heads, c.num_key_value_heads) for c in (many, some, one, odd)]
    assert heads == [(4, 4), (4, 2), (4, 1), (4, 4)]


def test_the_part_for_text_of_a_model_of_images_is_shrunk_too() -> None:
    config = shrunk_config(transformers.Gemma3Config())
    assert config.text_config.hidden_size == 64
    # What stands for images has numbers of its own behind those of the tokenizer.
    tokens = [config.boi_token_index, config.eoi_token_index]
    assert len({*tokens, *range(TOKENS)}) == TOKENS + 2
    assert max(tokens) < config.text_config.vocab_size < TOKENS + 10


def twin_of(config: Any) -> Any:
    return random_model(shrunk_config(config), seed=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but the configuration of a large Llama."""
    where = tmp_path / "my (large) model"
    transformers.LlamaConfig(num_key_value_heads=8).save_pretrained(where)
    assert [path.name for path in where.iterdir()] == ["config.json"]
    return where


def test_a_folder_with_a_configuration_gives_a_twin(folder: Path) -> None:
    name = f"tiny:{folder}"
    model = load_model(name, dtype="float32")
    assert model.name == short_name(name) == prepare_model(name).name == "tiny-my-large-model"
    assert model.source == name
    assert len(model.sites) == 14
    assert model.notice == (
        f"a shrunk twin of {folder} with random weights (seed 20260101): its text means nothing"
    )
    again = load_model(name, dtype="float32")
    assert (model.weights_hash, model.network_hash) == (again.weights_hash, again.network_hash)
    assert load_model(name, dtype="bfloat16").dtype == torch.bfloat16


def dtypes_of(model: Any) -> dict[str, torch.dtype]:
    """Of all parameters and buffers, also those that are not saved."""
    return {n: each.dtype for n, each in [*model.named_parameters(), *model.named_buffers()]}


@pytest.mark.parametrize("kind", ["xglm", "openai-gpt", "falcon_h1", "glm4_moe", "inkling_text"])
def test_a_twin_in_bfloat16_is_built_as_a_folder_of_it_is_loaded(kind: str, tmp_path: Path) -> None:
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    twin = load_model(f"tiny:{kind}", dtype="float32")
    plain = transformers.AutoModelForCausalLM.from_config(twin.model.config)
    plain.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    model = load_model(f"tiny:{kind}", dtype="bfloat16").model
    whole = {n: d for n, d in dtypes_of(loaded).items() if "experts." not in n}
    assert {n: d for n, d in dtypes_of(model).items() if n in whole} == whole
    assert dtypes_of(twin.twin(torch.bfloat16).model) | whole == dtypes_of(model)
    with torch.inference_mode():
        found = model(input_ids=torch.arange(40, 52)[None], use_cache=False).logits
    assert found.dtype == torch.bfloat16


def test_what_stays_in_float32_is_not_rounded_while_it_is_read(tmp_path: Path) -> None:
    """The bias of GLM's router, of which neighbours in bfloat16 choose other experts."""
    twin = load_model("tiny:glm4_moe", dtype="float32")
    plain = transformers.AutoModelForCausalLM.from_config(twin.model.config)
    for name, buffer in plain.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(1 + 1e-4 * torch.arange(buffer.numel()))
    plain.save_pretrained(tmp_path)
    twin.tokenizer.save_pretrained(tmp_path)
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    found = dict(load_model(str(tmp_path), dtype="bfloat16").model.named_buffers())
    biases = [each for each in expected.named_buffers() if each[0].endswith("correction_bias")]
    assert biases
    for name, bias in biases:
        assert found[name].dtype == bias.dtype == torch.float32
        assert torch.equal(found[name], bias)


def test_a_type_and_a_known_folder_give_twins() -> None:
    one, other = load_model("tiny:llama"), load_model("tiny:relu-4m")
    assert (one.name, other.name) == ("tiny-llama", "tiny-relu-4m")
    assert one.weights_hash != other.weights_hash
    assert load_model("tiny-random").notice == ""


def _write(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "tiny:",
            ": '' is no folder, no hub id and no type of model that transformers knows; give",
        ),
        ("tiny:nonsense", ": 'nonsense' is no folder, no hub id and no type of model that"),
        ("tiny:./no/such", ": './no/such' is no folder, no hub id"),
        ("tiny:bert", ": BertLMHeadModel reads a text both ways, as an encoder does; take a"),
        ("tiny:t5", " is a t5, not a decoder-only language model; take one that generates text"),
        ("tiny:bart", " is a bart, not a decoder-only language model; take"),
        ("tiny:clip", " is a clip, not a decoder-only language model; take"),
    ],
)
def test_a_name_without_a_twin_is_one_sentence(name: str, said: str) -> None:
    with pytest.raises(SparsityError) as caught:
        load_model(name)
    assert str(caught.value).startswith(f"--sparsity-model {name}{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, ": the folder has no config.json; give tiny:FOLDER with a config.json, tiny:org/"),
        ({"model_type": "no-such-type"}, " cannot be read: .*no-such-type.*; give tiny:FOLDER"),
        (
            {
                "model_type": "no-such-type",
                "auto_map": {"AutoConfig": "configuration.Own", "AutoModelForCausalLM": "own.Own"},
            },
            " cannot be read: .*; give tiny:FOLDER",
        ),
        ({"model_type": "llama", "hidden_act": "no-such"}, " cannot be built small: .*no-such.*; "),
    ],
)
def test_a_folder_without_a_twin_is_one_sentence(tmp_path: Path, config: Any, said: str) -> None:
    if config is not None:
        _write(tmp_path, **config)
    with pytest.raises(SparsityError, match=f"^--sparsity-model tiny:{tmp_path}{said}") as caught:
        load_model(f"tiny:{tmp_path}")
    assert "\n" not in str(caught.value)
