"""Layers that a pass runs several times, for some tokens only, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe
from pytest_sparsity.models.backbone import map_model
from pytest_sparsity.models.twins import plain_config, random_model, shrunk_config

TEXT = torch.tensor([[7 * n % 256 for n in range(1, 25)]])
#: Several cycles over two stacks; bytes and patches of them; one block in many layers; layers that
#: attend to images; an encoder of images with as many layers as the decoder.
FAMILIES = ["HrmText", "Blt", "Zamba", "Zamba2", "Mllama", "Gemma3"]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, wrapped: Any) -> Any:
    kind = getattr(transformers, f"{request.param}Config", None)
    if kind is None:
        pytest.skip(f"this transformers has no {request.param}")
    return wrapped(random_model(shrunk_config(plain_config(kind)), seed=1), request.param)


def run(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.model(input_ids=TEXT, use_cache=False).logits
    return found


def test_what_is_skipped_is_counted_by_what_is_multiplied(model: Any) -> None:
    skipped = read = 0

    def hook(layer: Any, args: Any) -> Any:
        nonlocal skipped, read
        x = torch.where(args[0].abs() > 0.3, args[0], 0)
        skipped += int((x == 0).sum()) * layer.out_features
        read += x.numel() * layer.out_features
        return (x,)

    plan = Plan(
        "by_hand", 0.5, {s.name: Threshold(0.3) for s in model.sites}, PrefillPolicy("none")
    )
    dense = run(model)
    with sparsify(model, plan) as attached:
        attached.counting = True
        found = run(model)
        achieved = attached.achieved.weighted
    handles = [site.module.register_forward_pre_hook(hook) for site in model.sites]
    expected = run(model)
    for handle in handles:
        handle.remove()
    assert torch.equal(found, expected)
    assert not torch.allclose(found, dense, atol=1e-2)
    assert achieved == pytest.approx(skipped / read, rel=1e-9)
    assert torch.equal(run(model), dense)


def test_every_site_is_run(model: Any) -> None:
    seen: set[str] = set()

    def hook_of(name: str) -> Any:
        return lambda layer, args: seen.add(name)

    handles = [s.module.register_forward_pre_hook(hook_of(s.name)) for s in model.sites]
    run(model)
    for handle in handles:
        handle.remove()
    assert seen == {site.name for site in model.sites}


def test_layers_that_only_images_come_to_are_no_sites(model: Any) -> None:
    exempt = {each.name: each.reason for each in map_model(model.model).exempt}
    idle = {name for name, reason in exempt.items() if reason == "is not run on text"}
    if model.name == "Mllama":
        assert any("cross_attn" in name for name in idle)
    if model.name == "Gemma3":
        inside = {id(module) for module in model.model.model.language_model.modules()}
        assert all(id(site.module) in inside for site in model.sites)


def test_no_vector_for_a_layer_in_several_places(model: Any) -> None:
    several = [site for site in model.sites if site.places > 1]
    # Transformers 4 puts one block in several layers, 5 blocks of their own with the same weights.
    shared = ("HrmText", "Zamba", "Zamba2") if transformers.__version__ < "5" else ("HrmText",)
    assert bool(several) == (model.name in shared)
    if not several:
        return
    assert not any(Recipe().chooses(site) for site in several)
    plan = Plan("by_hand", 0.5, {s.name: Threshold(0.3) for s in model.sites}, FIRST_TOKEN_DENSE)
    if len(several) == len(model.sites):
        with pytest.raises(SparsityError, match="it can have no spontaneous neurons"):
            mean_residual(model, plan, [TEXT[0]])
    else:
        vectors = mean_residual(model, plan, [TEXT[0]]).a.keys()
        assert vectors
        assert not vectors & {site.name for site in several}
    own = several[0]
    with pytest.raises(SparsityError) as caught:
        sparsify(model, Plan("", 0.0, {}, bias={own.name: torch.zeros(own.module.out_features)}))
    assert str(caught.value) == (
        f"the plan has a bias for {own.name} of {model.name}, one layer that stands in "
        f"{own.places} places, where another constant is lost in each; leave it out"
    )
