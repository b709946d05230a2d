"""Matrices that mixers multiply from the left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.models.backbone import map_model, use_linear_layers
from pytest_sparsity.models.twins import plain_config, random_model, shrunk_config

TEXT = torch.tensor([[7 * n % 256 for n in range(1, 25)], [11 * n % 256 for n in range(1, 25)]])
FAMILIES = {
    "Mamba": "0.mixer.dt_proj.proj",
    "FalconMamba": "0.mixer.dt_proj.proj",
    "Jamba": "0.mamba.dt_proj.proj",
    "Zamba": "0.mamba.dt_proj_weight.1.proj",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_they_compute_what_they_did(family: str) -> None:
    kind = getattr(transformers, f"{family}Config")
    model: Any = random_model(shrunk_config(plain_config(kind)), seed=1)
    model.eval().requires_grad_(False)
    if family == "Jamba":  # as the experts' layers do
        model.config._experts_implementation = "eager"
    memory = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.inference_mode():
        expected = model(input_ids=TEXT, use_cache=False).logits
        use_linear_layers(model)
        assert torch.equal(model(input_ids=TEXT, use_cache=False).logits, expected)
    assert {p.untyped_storage().data_ptr() for p in model.parameters()} == memory
    mapped = map_model(model)
    site = next(site for site in mapped.sites if site.name == FAMILIES[family])
    assert not any("dt_proj" in each.name and "bias" not in each.name for each in mapped.exempt)

    seen: list[torch.Tensor] = []
    site.module.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    site.module.register_forward_hook(lambda layer, args, output: output + 0.5)
    with torch.inference_mode():
        found = model(input_ids=TEXT, use_cache=False).logits
    assert not torch.allclose(found, expected, atol=1e-3)  # what it gives is what is used
    assert seen[0].shape == (*TEXT.shape, site.module.in_features)  # a row for each token


def test_the_step_reads_its_part_of_the_parameters() -> None:
    config = shrunk_config(plain_config(transformers.MambaConfig))
    model: Any = random_model(config, seed=1).eval().requires_grad_(False)
    use_linear_layers(model)
    mixer = model.backbone.layers[0].mixer
    given: dict[str, torch.Tensor] = {}
    mixer.x_proj.register_forward_hook(lambda m, args, output: given.update(made=output))
    mixer.dt_proj.linear.register_forward_pre_hook(lambda m, args: given.update(read=args[0]))
    with torch.inference_mode():
        model(input_ids=TEXT, use_cache=False)
    assert torch.equal(given["read"], given["made"][..., : config.time_step_rank])
