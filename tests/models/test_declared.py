from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.models import load_model
from pytest_sparsity.models.activations import DReLU, FatReLU, use_drelu, use_fatrelu
from pytest_sparsity.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 250, (1, 40), generator=torch.Generator().manual_seed(3))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=TEXT).logits
    return found


@pytest.fixture
def relu(small_model: Any) -> Any:
    """A small Llama with ReLU; the same weights in every test."""
    return small_model("llama", hidden_act="relu").model


@pytest.fixture
def saved(relu: Any, tmp_path: Path) -> Any:
    """Saves it, with changes to its config.json."""

    def save(**changes: Any) -> Path:
        folder = tmp_path / "my model"
        shutil.rmtree(folder, ignore_errors=True)
        relu.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config = {key: value for key, value in {**config, **changes}.items() if value != "DELETE"}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return save


def with_own_mlp(relu: Any, compute: Any) -> Any:
    """The model with another formula, in plain torch, of gate and up in its MLPs."""
    model = copy.deepcopy(relu)
    for layer in model.model.layers:
        mlp = layer.mlp

        def forward(x: torch.Tensor, mlp: Any = mlp) -> torch.Tensor:
            h = compute(x @ mlp.gate_proj.weight.t(), x @ mlp.up_proj.weight.t())
            out: torch.Tensor = h @ mlp.down_proj.weight.t()
            return out

        mlp.forward = forward
    return model


def fat(t: float) -> Any:
    return lambda gate, up: torch.where(gate > t, gate, torch.zeros(())) * up


def test_fatrelu_is_its_definition() -> None:
    x = torch.tensor([-1.0, 0.0, 0.05, 0.1, 0.1000001, 2.0, float("nan"), float("inf")])
    y = FatReLU(0.1)(x)
    assert torch.equal(y[:6], torch.tensor([0, 0, 0, 0, 0.1000001, 2]))
    assert torch.isnan(y[6])
    assert y[7] == float("inf")
    assert FatReLU(0.1)(x.bfloat16()).dtype == torch.bfloat16
    assert repr(FatReLU(0.1)) == "FatReLU(threshold=0.1)"


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("llama", "LlamaForCausalLM"),
        ("llama", "SparseLlamaForCausalLM"),
        ("sparsellama", "SparseLlamaForCausalLM"),
    ],
)
def test_fatrelu_is_computed(model_type: str, architecture: str, relu: Any, saved: Any) -> None:
    folder = saved(
        model_type=model_type,
        architectures=[architecture],
        hidden_act="fatrelu",
        hidden_act_param=0.3,
        auto_map={"AutoConfig": "configuration_x.X"},
    )
    loaded = load_model(str(folder), dtype="float32")
    torch.testing.assert_close(logits(loaded.model), logits(with_own_mlp(relu, fat(0.3))))
    assert not torch.allclose(logits(loaded.model), logits(relu), atol=1e-2)
    config: Any = loaded.model.config
    assert (config.hidden_act, config.hidden_act_param) == ("fatrelu", 0.3)
    assert "fatrelu" not in ACT2FN
    twin = loaded.twin()
    assert torch.equal(logits(twin.model), logits(loaded.model))
    # Nothing of it is left for the next model.
    assert torch.equal(logits(load_model(str(saved()), dtype="float32").model), logits(relu))


@pytest.mark.parametrize(
    ("model_type", "architectures"),
    [
        ("bamboo", ["BambooForCausalLM"]),
        ("mistral", ["BambooForCausalLM"]),
        ("llama", ["BambooForCausalLM"]),
        ("bamboo", None),
    ],
)
def test_drelu_is_computed(model_type: str, architectures: Any, relu: Any, saved: Any) -> None:
    folder = saved(model_type=model_type, architectures=architectures)
    loaded = load_model(str(folder), dtype="float32")
    expected = with_own_mlp(relu, lambda gate, up: gate.relu() * up.relu())
    torch.testing.assert_close(logits(loaded.model), logits(expected))
    assert not torch.allclose(logits(loaded.model), logits(relu), atol=1e-2)
    assert loaded.model.config.hidden_act == "relu"
    assert loaded.model.config.architectures == ["BambooForCausalLM"]
    mlps = [module for module in loaded.model.modules() if isinstance(module, DReLU)]
    assert [list(dict(mlp.named_children())) for mlp in mlps] == 3 * [
        ["gate_proj", "up_proj", "down_proj", "act_fn"]
    ]
    assert [site.kind for site in loaded.sites[:7]] == ["q", "k", "v", "o", "gate", "up", "down"]
    assert all(type(site.module) is nn.Linear for site in loaded.sites)
    twin = loaded.twin()
    assert torch.equal(logits(twin.model), logits(loaded.model))
    assert twin.sites[4].module is not loaded.sites[4].module
    assert twin.sites[4].module.weight is loaded.sites[4].module.weight


def test_a_bamboo_may_leave_its_activation_out(relu: Any, saved: Any) -> None:
    folder = saved(model_type="bamboo", architectures=["BambooForCausalLM"], hidden_act="DELETE")
    expected = with_own_mlp(relu, lambda gate, up: gate.relu() * up.relu())
    loaded = load_model(str(folder), dtype="float32")
    torch.testing.assert_close(logits(loaded.model), logits(expected))


@pytest.mark.parametrize("model_type", ["sparse_mistral", "mistral"])
def test_a_model_of_cats_is_measured_dense_and_says_so(
    model_type: str, relu: Any, saved: Any
) -> None:
    folder = saved(
        model_type=model_type,
        architectures=["SparseMistralForCausalLM"],
        thresholds=[0.1, 0.2, 0.3],
    )
    said = r"^--sparsity-model .*: its config.json has thresholds, .*--sparsity-methods=cats:natur"
    with pytest.warns(SparsityWarning, match=said) as caught:
        loaded = load_model(str(folder), dtype="float32")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    torch.testing.assert_close(logits(loaded.model), logits(relu))
    assert loaded.model.config.thresholds == [0.1, 0.2, 0.3]


def test_keys_that_tell_of_another_computation_are_named(relu: Any, saved: Any) -> None:
    folder = saved(
        ffn_sparsity=0.5,
        sparse_mlp=True,
        topk=32,
        # none of these: known to the class, of no effect, or of no such kind
        rms_norm_eps=relu.config.rms_norm_eps,
        activation_dropout=0.1,
        use_sparse=False,
        act_param=None,
        rotary_factor=3,
        exact=True,
    )
    said = "has ffn_sparsity, sparse_mlp, topk, which LlamaConfig does not know .*; take out"
    with pytest.warns(SparsityWarning, match=said) as caught:
        loaded = load_model(str(folder), dtype="float32")
    assert len(caught) == 1
    assert torch.equal(logits(loaded.model), logits(relu))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hidden_act_param": 0.1},
            r"its config\.json has hidden_act_param 0\.1, which hidden_act 'relu' does not take; w",
        ),
        (
            {"hidden_act": "fatrelu"},
            r"its config\.json has hidden_act 'fatrelu' and hidden_act_param None; write the thre",
        ),
        (
            {"hidden_act": "fatrelu", "hidden_act_param": "0.1"},
            r"'fatrelu' and hidden_act_param '0\.1'; write the threshold there, a finite number",
        ),
        ({"hidden_act": "fatrelu", "hidden_act_param": True}, "hidden_act_param True; write the"),
        (
            {"hidden_act": "fatrelu", "hidden_act_param": float("nan")},
            "hidden_act_param nan; write the threshold there, a finite number",
        ),
        (
            {"model_type": "bamboo", "architectures": ["BambooForCausalLM"], "hidden_act": "silu"},
            "has hidden_act 'silu' with BambooForCausalLM, which computes .*; write hidden_act 're",
        ),
        (
            {"architectures": ["TurboSparseForCausalLM"]},
            "names the class TurboSparseForCausalLM, but its model_type 'llama' is loaded as "
            "LlamaForCausalLM, which .*; if the weights are of LlamaForCausalLM, write that under",
        ),
        (
            {"architectures": ["MistralForCausalLM"]},
            "names the class MistralForCausalLM, but its model_type 'llama' is loaded as LlamaFor",
        ),
        (
            {"architectures": ["SparseMistralForCausalLM"]},  # of another type than the model
            "names the class SparseMistralForCausalLM, but its model_type 'llama' is loaded as Ll",
        ),
        ({"architectures": "LlamaForCausalLM!"}, "cannot be loaded: architectures .*; pass a f"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], said: str, saved: Any) -> None:
    folder = saved(**changes)
    with pytest.raises(SparsityError, match=rf"^--sparsity-model {folder}:? .*{said}") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_an_activation_under_a_second_name_is_no_news(small_model: Any, tmp_path: Path) -> None:
    small_model("gemma2").model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["hidden_act"] = config["hidden_activation"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_model(str(tmp_path))  # warnings are errors
    config["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(SparsityWarning, match="has hidden_act, which Gemma2Config does not know"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("architecture", ["LLaMAForCausalLM", "llamaforcausallm"])
def test_another_case_is_the_same_class(architecture: str, relu: Any, saved: Any) -> None:
    loaded = load_model(str(saved(architectures=[architecture])), dtype="float32")
    assert torch.equal(logits(loaded.model), logits(relu))


def test_the_old_name_of_falcon_is_falcon(small_model: Any, tmp_path: Path) -> None:
    small_model("falcon").model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["FalconForCausalLM"]
    config["architectures"] = ["RWForCausalLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_model(str(tmp_path), dtype="float32")
    assert torch.equal(logits(loaded.model), logits(small_model("falcon").model))


def test_a_model_without_a_place_for_it_is_one_sentence(small_model: Any, saved: Any) -> None:
    with pytest.raises(SparsityError, match=r"GPTNeoXForCausalLM has no activation .*; pass a"):
        use_fatrelu(small_model("gpt_neox").model, 0.1)
    with pytest.raises(SparsityError, match=r"GPTNeoXForCausalLM has no gated MLP .*; pass a mod"):
        use_drelu(small_model("gpt_neox").model)
