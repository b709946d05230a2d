from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.tensor_file import read_tensors
from pytest_sparsity.models import LanguageModel, load_model, prepare_model
from pytest_sparsity.models.activations import DReLU, use_drelu
from pytest_sparsity.models.powerinfer_gguf import open_powerinfer
from pytest_sparsity.models.powerinfer_layout import permuted, unpermuted
from pytest_sparsity.models.powerinfer_write import write_powerinfer_gguf

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 250, (1, 40), generator=torch.Generator().manual_seed(3))
FORMAT = "pytest-sparsity neuron predictors 2"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=TEXT).logits
    return found


def rounded(model: LanguageModel) -> Any:
    """transformers' model with the matrices as float16 holds them."""
    other = copy.deepcopy(model.model)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    return other


@pytest.fixture
def engine_model(small_model: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what the engine computes for one of its architectures, as transformers has it."""

    def make(architecture: str) -> Any:
        if architecture == "falcon_grouped":
            wide = {"num_attention_heads": 4, "num_kv_heads": 2}
            return small_model("falcon_grouped", activation="relu", **wide)
        if architecture == "falcon":
            return small_model("falcon", activation="relu")
        if architecture == "opt":
            return small_model("opt")
        relu = {"hidden_act": "relu", "num_attention_heads": 4, "num_key_value_heads": 2}
        model = small_model("llama", head_dim=8, rope_theta=500.0, **relu)
        if architecture == "bamboo":
            use_drelu(model.model)
        return model

    return make


@pytest.mark.parametrize("architecture", ["llama", "bamboo", "falcon", "falcon_grouped", "opt"])
def test_a_file_of_the_engine_is_loaded(
    architecture: str, engine_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    model = engine_model(architecture)
    path = tmp_path / "my.powerinfer.gguf"
    stated = architecture.removesuffix("_grouped")
    engine_files.write_engine_file(path, model.model, stated, threshold=-0.5)
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    torch.testing.assert_close(logits(loaded.model), logits(model.model), rtol=1e-5, atol=1e-5)
    assert [site.name for site in loaded.sites] == [site.name for site in model.sites]
    assert (loaded.name, loaded.bos) == ("my.powerinfer", None)
    assert loaded.predictors is not None
    tensors, provenance = read_tensors(loaded.predictors, FORMAT)
    assert provenance == {
        "rule": "powerinfer",
        "reads": "residual",
        "between": "relu",
        "threshold": -0.5,
        "source": "my.powerinfer.gguf",
    }
    expected = engine_files.predictors(model.model)
    assert set(tensors) == {f"{n}.{part}" for n in expected for part in ("first", "second")}
    for number, (first, second) in expected.items():
        assert torch.equal(tensors[f"{number}.first"], first)
        assert torch.equal(tensors[f"{number}.second"], second)
    drelu = [module for module in loaded.model.modules() if isinstance(module, DReLU)]
    assert len(drelu) == (3 if architecture == "bamboo" else 0)


def test_the_second_relu_of_bamboo_is_not_for_nothing(
    engine_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    model = engine_model("bamboo")
    path = engine_files.write_engine_file(tmp_path / "x.gguf", model.model, "llama")
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    assert not torch.allclose(logits(loaded.model), logits(model.model), atol=1e-2)


@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 0.03), ("Q8_0", 0.6), ("Q4_0", 6.0)])
def test_blocks_are_what_they_stand_for(
    kind: str, tolerance: float, engine_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    import gguf

    # Rows of whole blocks: the rows of ffn_down_t are as long as the stream is wide.
    model = engine_model("llama")
    path = engine_files.write_engine_file(tmp_path / "x.gguf", model.model, "llama", kind=kind)
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    down = model.model.model.layers[1].mlp.down_proj.weight
    number = gguf.GGMLQuantizationType[kind]
    packed = gguf.quants.quantize(down.t().contiguous().numpy(), number)
    stands_for = torch.from_numpy(gguf.quants.dequantize(packed, number)).t()
    assert torch.equal(loaded.model.model.layers[1].mlp.down_proj.weight, stands_for)
    difference = (logits(loaded.model) - logits(model.model)).abs().max()
    assert 0 < difference < tolerance


def test_the_tokenizer_is_that_of_the_keys(
    engine_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    model = engine_model("llama").model
    path = engine_files.write_engine_file(tmp_path / "x.gguf", model, "llama")
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    plain = load_model("tiny-random").tokenizer
    expected = plain("he is")["input_ids"]
    assert loaded.tokenizer("he is")["input_ids"] == [255, *expected[2:]]
    assert loaded.tokenizer.eos_token_id == 256
    path = engine_files.write_engine_file(tmp_path / "y.gguf", model, "llama", tokenizer="llama")
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    assert loaded.bos == 1  # the engine puts it before every text
    tokens = loaded.tokenizer("the the")["input_ids"]
    assert tokens == [1, *loaded.tokenizer.convert_tokens_to_ids(["▁the", "▁the"])]


def test_predictors_are_found_by_name_without_the_magic(
    engine_model: Any, engine_files: ModuleType, tiny_gguf: Path, tmp_path: Path
) -> None:
    model = engine_model("llama").model
    path = engine_files.write_engine_file(tmp_path / "x.gguf", model, "llama", magic=b"GGUF")
    found = open_powerinfer(path)
    assert found is not None
    assert found.layout.settings["hidden_act"] == "relu"
    assert open_powerinfer(tiny_gguf) is None
    # The name alone, here in the vocabulary, makes none.
    liar = tmp_path / "liar.gguf"

    def without(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if ".fc" in name]:
            del tensors[name]

    engine_files.write_engine_file(
        liar,
        model,
        "llama",
        magic=b"GGUF",
        tensors=without,
        keys=lambda settings: settings.update({"note": "blk.0.fc1.weight"}),
    )
    assert b"blk.0.fc1.weight" in liar.read_bytes()
    assert open_powerinfer(liar) is None


def test_a_tied_head_is_stored_once(
    small_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    model = small_model("llama", hidden_act="relu", tie_word_embeddings=True)
    path = engine_files.write_engine_file(tmp_path / "x.gguf", model.model, "llama")
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    torch.testing.assert_close(logits(loaded.model), logits(model.model), rtol=1e-5, atol=1e-5)


def test_scaled_angles_are_kept(small_model: Any, engine_files: ModuleType, tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 4.0}
    model = small_model("llama", hidden_act="relu", rope_scaling=scaled)
    path = engine_files.write_engine_file(
        tmp_path / "x.gguf",
        model.model,
        "llama",
        keys=lambda settings: settings.update({"rope.scaling.factor": 4.0}),
    )
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    torch.testing.assert_close(logits(loaded.model), logits(model.model), rtol=1e-5, atol=1e-5)


def test_predictors_are_verified_and_are_no_weights(
    engine_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    model = engine_model("llama").model
    path = engine_files.write_engine_file(tmp_path / "x.powerinfer.gguf", model, "llama")
    first = prepare_model(str(path), cache=tmp_path)
    assert first.folder is not None
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert manifest["weights"] == ["model.safetensors"]
    assert "predictors.safetensors" in manifest["files"]
    assert prepare_model(str(path), cache=tmp_path) == first
    assert (first.folder / "manifest.json").stat().st_mtime_ns == written
    # The same weights with other predictors are the same model.
    other = engine_files.write_engine_file(
        tmp_path / "y.powerinfer.gguf",
        model,
        "llama",
        tensors=lambda tensors: tensors.update({"blk.0.fc1.weight": torch.ones(32, 32).numpy()}),
    )
    assert prepare_model(str(other), cache=tmp_path).weights_hash == first.weights_hash
    whole = load_model(str(first.folder), dtype="float32")
    assert whole.predictors == first.folder / "predictors.safetensors"
    (first.folder / "predictors.safetensors").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"changed file \(predictors.safetensors\); it is made"):
        assert prepare_model(str(path), cache=tmp_path) == first


def _cut(where: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:where]


def _of_type(name: str, number: int) -> Callable[[bytes], bytes]:
    """Another type in the entry of a tensor: name, axes, their sizes, type."""

    def change(content: bytes) -> bytes:
        at = content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
        at += 4 + 8 * int.from_bytes(content[at : at + 4], "little")
        return content[:at] + number.to_bytes(4, "little") + content[at + 4 :]

    return change


UNREADABLE = r"is a GGUF file of PowerInfer that cannot be read: .*; download or convert it again$"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cut(4), UNREADABLE),
        (_cut(12), r"cannot be read: it is cut short, at 12 bytes of at least 24; download"),
        (_cut(3000), UNREADABLE),
        (_cut(-1), r"cannot be read: it is cut short, at \d+ bytes of at least \d+; download or"),
        (
            _of_type("blk.1.fc2.weight", 99),
            r"tensor blk\.1\.fc2\.weight has the type 99, which is none; down",
        ),
        (
            _of_type("blk.1.fc2.weight", 4),
            r"tensor blk\.1\.fc2\.weight has the type 4, which is none; downl",
        ),
        (
            # I32 in the engine's numbers, IQ3_XXS in today's
            _of_type("output_norm.weight", 26),
            r"has the tensor output_norm\.weight of type 26, which .*; convert it to F32, F16, ",
        ),
        (lambda c: c[:4] + b"\x09" + c[5:], r"cannot be read: .* version 9 .*; download or"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    change: Callable[[bytes], bytes],
    said: str,
    engine_model: Any,
    engine_files: ModuleType,
    tmp_path: Path,
) -> None:
    model = engine_model("llama").model
    path = engine_files.write_engine_file(tmp_path / "bad.gguf", model, "llama")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SparsityError, match=said) as caught:
        prepare_model(str(path), cache=tmp_path)
    assert str(caught.value).startswith("--sparsity-model bad.gguf ")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "models").glob("bad*"))


def _without(name: str) -> dict[str, Any]:
    return {"tensors": lambda tensors: tensors.pop(name)}


def _shaped(name: str, *shape: int) -> dict[str, Any]:
    made = torch.ones(*shape).numpy()
    return {"tensors": lambda tensors: tensors.update({name: made})}


def _key(**changes: Any) -> dict[str, Any]:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return {"keys": lambda settings: settings.update(dotted)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            _key(architecture="baichuan"),
            "of architecture 'baichuan', and its engine runs llama, bamboo, falcon, opt; pass a",
        ),
        (_without("blk.1.fc1.weight"), r"has no tensor blk\.1\.fc1\.weight, which every .*; conv"),
        (_without("blk.2.fc2.weight"), r"has no tensor blk\.2\.fc2\.weight, which every .*; conv"),
        (_without("output.weight"), r"has no tensor output\.weight, which every .*; convert"),
        (_without("blk.0.ffn_gate.weight"), r"has no tensor blk\.0\.ffn_gate\.weight, which ev"),
        (
            _shaped("blk.1.ffn_down_t.weight", 32, 48),
            r"ffn_down_t\.weight of shape \[32, 48\], and its keys .* say \[48, 32\]; convert",
        ),
        (
            _shaped("blk.1.fc1.weight", 8, 48),
            r"blk\.1\.fc1\.weight of shape \[8, 48\], and .* say \['R', 32\]; convert",
        ),
        (
            _shaped("blk.1.fc1.weight", 8, 32),
            r"a predictor in layer 1 whose fc1 gives 8 numbers and whose fc2 reads 32; convert",
        ),
        (_shaped("blk.0.attn_q.bias", 32), r"the tensor blk\.0\.attn_q\.bias, which .*; convert"),
        (
            {"keys": lambda settings: settings.pop("embedding_length")},
            r"has None for the key llama\.embedding_length, which every .*; convert the model",
        ),
        (_key(attention__head_count=5), "has 5 heads and 2 of keys for 32 channels, which do no"),
        (_key(block_count=0), r"has 0 for the key llama\.block_count, which is a whole number"),
        (_key(rope__dimension_count=4), "rotates 4 of the 8 channels of a head, which .*; conv"),
        (_key(rope__scaling__type="yarn"), "scales its rotary angles by 'yarn', .*; pass a file"),
    ],
)
def test_what_the_engine_does_not_compute_is_one_sentence(
    changes: dict[str, Any],
    said: str,
    engine_model: Any,
    engine_files: ModuleType,
    tmp_path: Path,
) -> None:
    path = engine_files.write_engine_file(
        tmp_path / "bad.gguf", engine_model("llama").model, "llama", **changes
    )
    with pytest.raises(SparsityError, match=rf"^--sparsity-model bad\.gguf .*{said}") as caught:
        open_powerinfer(path)
    assert "\n" not in str(caught.value)


def test_rows_are_permuted_and_back() -> None:
    matrix = torch.arange(24.0).reshape(12, 2)
    assert permuted(matrix, 2)[:, 0].div(2).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert torch.equal(unpermuted(permuted(matrix, 2), 2), matrix)


@pytest.mark.parametrize("family", ["arcee", "llama", "mistral", "bamboo"])
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_written_is_read(
    family: str, tied: bool, small_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    kind = "llama" if family == "bamboo" else family
    settings = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    model = small_model(kind, hidden_act="relu", tie_word_embeddings=tied, **settings)
    if family == "bamboo":
        use_drelu(model.model)
    layers = engine_files.predictors(model.model)
    path = tmp_path / "mine.powerinfer.gguf"
    write_powerinfer_gguf(path, model, layers, 0.25)
    assert path.read_bytes()[:8] == b"PWRI" + struct.pack("<I", 3)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    opened = open_powerinfer(path)
    assert opened is not None
    assert opened.layout.architecture == ("bamboo" if family == "bamboo" else "llama")
    kinds = {name: t.tensor_type.name for name, t in opened.tensors.items()}
    assert {kinds[name] for name in kinds if "norm" in name} == {"F32"}
    assert {kinds[name] for name in kinds if "norm" not in name} == {"F16"}
    assert "output.weight" in kinds
    assert ("blk.0.ffn_gate.weight" in kinds) == (family != "arcee")
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    assert torch.equal(logits(loaded.model), logits(rounded(model)))
    assert loaded.model.config.tie_word_embeddings == tied
    text = "She said: don't go  there 123\n"
    assert loaded.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    assert loaded.tokenizer.eos_token_id == 256
    assert loaded.predictors is not None
    tensors, provenance = read_tensors(loaded.predictors, FORMAT)
    assert provenance["threshold"] == 0.25
    for number, (first, second) in layers.items():
        assert torch.equal(tensors[f"{number}.first"], first)
        assert torch.equal(tensors[f"{number}.second"], second)


def test_the_shipped_relu_model_survives_the_way(engine_files: ModuleType, tmp_path: Path) -> None:
    model = load_model("relu-4m", dtype="float32")
    path = tmp_path / "relu.powerinfer.gguf"
    write_powerinfer_gguf(path, model, engine_files.predictors(model.model), None)
    loaded = load_model(str(path), dtype="float32", cache=tmp_path)
    assert torch.equal(logits(loaded.model), logits(rounded(model)))
    text = "The ship's boat, it seemed, wasn't worth 23 guineas.\n\n  No?"
    assert loaded.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    assert loaded.predictors is not None
    assert read_tensors(loaded.predictors, FORMAT)[1]["threshold"] is None


def test_only_what_the_engine_computes_is_written(
    small_model: Any, engine_files: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    relu = small_model("llama", hidden_act="relu", head_dim=16)
    layers = engine_files.predictors(relu.model)

    def refused(model: Any, said: str, given: Any = layers) -> None:
        with pytest.raises(SparsityError, match=said):
            write_powerinfer_gguf(path, model, given, None)
        assert not list(tmp_path.iterdir())

    refused(small_model("llama"), "its hidden_act is 'silu', and its engine .*; write a Llama,")
    refused(small_model("gpt_neox"), "it is of type 'gpt_neox', and its engine computes none;")
    refused(
        small_model("llama", hidden_act="relu", head_dim=8), "2 heads of 8 channels in a stream of"
    )
    refused(small_model("llama", hidden_act="relu", mlp_bias=True), r"has the tensor .*\.bias, ")
    scaled = {"rope_type": "linear", "factor": 2.0}
    refused(small_model("llama", hidden_act="relu", rope_scaling=scaled), "are scaled by 'linear'")
    refused(relu, r"of the layers \[0, 1\] were given .* each of its 3 layers; fit", {0: 1, 1: 1})
    first, second = layers[1]
    refused(
        relu,
        r"layer 1 .* shapes \[32, 32\] and \[32, 48\]; give \[R, 32\] and \[48, R\]",
        {**layers, 1: (first, second.t())},
    )
    with torch.no_grad():
        relu.model.lm_head.weight[0, 0] = 7e4
    refused(relu, "lm_head.weight has values that float16 cannot hold; write a model")
    with torch.no_grad():
        relu.model.lm_head.weight[0, 0] = 0
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    )
    object.__setattr__(relu, "tokenizer", words)
    refused(relu, "its tokenizer is WordLevel; write a model whose tokenizer.json is byte-level")
    object.__setattr__(relu, "tokenizer", load_model("tiny-random").tokenizer)
    with pytest.raises(SparsityError, match=r"cannot write .*: .*; free some space"):
        write_powerinfer_gguf(tmp_path / "no" / "such" / "x.gguf", relu, layers, None)
