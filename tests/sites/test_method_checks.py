"""Whether a method has a meaning for a model is said before anything is calibrated for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from built_families import built
from transformers import CONFIG_MAPPING

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.cats import Cats
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.registry import BUNDLED, by_name, check_method, find
from pytest_sparsity.methods.spon.residual import check_takes_constants
from pytest_sparsity.methods.teal_greedy import TealGreedy
from pytest_sparsity.models import load_model

EVERY = PrefillPolicy("none")
DOCUMENTS = [torch.tensor([(7 + n) * t % 256 for t in range(1, 41)]) for n in range(6)]
VARIANTS = ("teal:experts", "cats:natural", "hot_only:model", "random_neurons:model")
#: Train predictors, where they have a meaning.
TRAINED = ("powerinfer", "deja_vu", "cold_skip")


def needs(kind: str) -> pytest.MarkDecorator:
    """Leaves a test out where transformers has no such architecture."""
    return pytest.mark.skipif(kind not in CONFIG_MAPPING, reason=f"transformers has no {kind}")


def said(run: Callable[..., object], *args: object) -> str:
    """The sentence with which something is refused; empty if it is not."""
    try:
        run(*args)
    except SparsityError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "phi3", "qwen3_next", "phi"])
def test_the_check_says_what_the_plan_would(
    wrapped: Callable[..., Any], tmp_path: Path, family: str
) -> None:
    model, known = wrapped(built(family), family), by_name()
    sentences = {}
    for name in (*(method.name for method in BUNDLED), *VARIANTS):
        method = find(known, name)
        sentences[name] = said(check_method, method, model)
        if name in TRAINED and not sentences[name]:
            continue
        calibrator = Calibrator(model, DOCUMENTS, EVERY, tmp_path / name)
        assert said(method.plan, calibrator, 0.5) == sentences[name], name
    assert not sentences["teal"]
    assert sentences["cats:natural"]
    assert bool(sentences["teal:experts"]) == (not any(s.routed for s in model.sites))


def test_methods_of_others_need_no_check(tiny: Any) -> None:
    class Other:
        name = "other"
        parameters: Mapping[str, object] = {}

        def plan(self, calibrator: Any, level: float) -> Any: ...

    check_method(Other(), tiny)


@pytest.mark.parametrize("family", ["bitnet", "gemma3n_text"])
def test_gates_that_are_not_all_a_neuron_is_multiplied_by_are_one_sentence(family: str) -> None:
    """BitNet has a norm behind the product, Gemma 3n sets most gates to 0 before it."""
    model = load_model(f"tiny:{family}", dtype="float32")
    with pytest.raises(SparsityError, match=f"layer 0 of tiny-{family} multiplies by something"):
        check_method(Cats(), model)


@needs("axk2")
def test_a_gate_in_the_attention_is_none_of_the_mlp() -> None:
    with pytest.raises(SparsityError, match="method cats decides by the gates of the MLPs"):
        check_method(Cats(), load_model("tiny:axk2", dtype="float32"))


def test_the_function_of_a_gate_without_a_name_is_found() -> None:
    """LFM2 calls silu in its forward."""
    model = load_model("tiny:lfm2", dtype="float32")
    plan = Cats().plan(Calibrator(model, DOCUMENTS, EVERY), 0.5)
    layers = [site for site in model.sites if site.name in ("0.gate", "0.down")]
    seen: dict[str, torch.Tensor] = {}
    for site in layers:
        site.module.register_forward_hook(
            lambda module, args, output, kind=site.kind: seen.update({kind: (args[0], output)})  # type: ignore[misc]
        )
    rows = []
    with torch.inference_mode():
        for document in DOCUMENTS:
            model.model(input_ids=document[None], use_cache=False)
            rows.append(torch.nn.functional.silu(seen["gate"][1]).abs().flatten())
    every = torch.cat(rows)
    kept = float((every > plan.neurons["0.down"].value).float().mean())
    assert kept == pytest.approx(0.5, abs=1e-3)


def test_blocks_that_give_a_list_are_searched() -> None:
    """OpenAI's GPT."""
    model = load_model("tiny:openai-gpt", dtype="float32")
    plan = TealGreedy().plan(Calibrator(model, DOCUMENTS, EVERY), 0.5)
    assert set(plan.targets) == {site.name for site in model.sites}


@needs("hrm_text")
def test_constants_of_a_model_of_shared_layers_alone_are_one_sentence() -> None:
    model = load_model("tiny:hrm_text", dtype="float32")
    with pytest.raises(SparsityError, match=r"every layer of tiny-hrm_text .* --sparsity-spon=off"):
        check_takes_constants(model)
