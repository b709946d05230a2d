"""Models that code makes: mapped by their own layout, and hashed by all that changes numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_sparsity import LanguageModel, SparsityError, load_model
from pytest_sparsity.hooks import OwnModel
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer


def build(seed: int = 5, change: Callable[[Any], object] = lambda model: None) -> Any:
    model = tiny_model(seed)
    change(model)
    return model, tiny_tokenizer()


def loaded(**given: Any) -> LanguageModel:
    return OwnModel("mine", lambda: build(**given)).load(dtype="float32")


def test_it_is_what_a_known_model_is() -> None:
    known = load_model("tiny-random", dtype="bfloat16")
    own = OwnModel("mine", lambda: build(20260101)).load(dtype="bfloat16")
    assert (own.name, own.source, own.dtype) == ("mine", "mine", torch.bfloat16)
    assert [site.name for site in own.sites] == [site.name for site in known.sites]
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(own.model(tokens).logits, known.model(tokens).logits)
    assert not own.model.training
    assert not any(parameter.requires_grad for parameter in own.model.parameters())


def test_hashes_do_not_depend_on_the_dtype() -> None:
    own = OwnModel("mine", build)
    one, other = own.load(dtype="float32"), own.load(dtype="bfloat16")
    assert (one.weights_hash, one.network_hash) == (other.weights_hash, other.network_hash)


def scale(model: Any) -> None:
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1


def buffer(model: Any) -> None:
    model.model.layers[0].register_buffer("cut", torch.tensor(0.5))


def config(model: Any) -> None:
    model.config.hidden_act = "relu"


class Other(torch.nn.Identity):
    pass


def module(model: Any) -> None:
    model.model.layers[0].add_module("also", Other())


@pytest.mark.parametrize("change", [scale, buffer, config, module])
def test_what_changes_numbers_changes_a_hash(change: Callable[[Any], object]) -> None:
    before, after = loaded(), loaded(change=change)
    assert (before.weights_hash, before.network_hash) != (after.weights_hash, after.network_hash)
    again = loaded(change=change)
    assert (again.weights_hash, again.network_hash) == (after.weights_hash, after.network_hash)


def test_where_it_was_read_from_changes_none() -> None:
    def rename(model: Any) -> None:
        model.config._name_or_path = "elsewhere"

    assert loaded().network_hash == loaded(change=rename).network_hash


def test_layout() -> None:
    layout = {f"{kind}_proj": kind for kind in ("q", "k", "v", "o", "gate", "up", "down")}
    one = OwnModel("mine", build, layout=layout).load()
    assert len(one.sites) == 21
    assert one.network_hash != OwnModel("mine", build).load().network_hash
    del layout["up_proj"]
    with pytest.raises(
        SparsityError, match=r"mine.*mlp.up_proj \(Linear\) is not mapped.*OwnModel"
    ):
        OwnModel("mine", build, layout=layout).load()


@pytest.mark.parametrize("name", ["", "a b", "tiny-random", "x.gguf", "../up", "-x"])
def test_names(name: str) -> None:
    with pytest.raises(SparsityError, match="use another one"):
        OwnModel(name, build)


@pytest.mark.parametrize("layout", [{}, {"up_proj": "ups"}])
def test_layouts_that_say_nothing(layout: dict[str, str]) -> None:
    with pytest.raises(
        SparsityError, match=r"OwnModel\(name='mine', layout=...\): .*give the ends"
    ):
        OwnModel("mine", build, layout=layout)


@pytest.mark.parametrize("made", [None, (1, 2), (tiny_model(0), None), tiny_model(0)])
def test_what_is_no_model(made: Any) -> None:
    with pytest.raises(SparsityError, match=r"mine: its build\(\) gave .*return a model and a tok"):
        OwnModel("mine", lambda: made).load()


def test_a_model_without_a_head() -> None:
    with pytest.raises(SparsityError, match="LlamaModel has no output embeddings"):
        OwnModel("mine", lambda: (tiny_model(0).model, tiny_tokenizer())).load()
