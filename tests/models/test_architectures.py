"""Everything that walks over sites, on every family of architectures, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import KINDS, load_model
from pytest_sparsity.models.backbone import find_sites, use_linear_layers
from pytest_sparsity.models.forward import check_head, hidden_states
from pytest_sparsity.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 256, (40,), generator=torch.Generator().manual_seed(3))
GATED = KINDS
PLAIN = tuple(kind for kind in KINDS if kind != "gate")
FUSED = ("qkv", "o", "up", "down")
#: family -> kinds of sites in every layer
FAMILIES = {
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3": GATED,
    "gemma2": GATED,
    "gemma3": GATED,
    "arcee": PLAIN,
    "opt": PLAIN,
    "falcon": FUSED,
    "falcon_alibi": FUSED,
    "falcon_grouped": FUSED,
    "gpt_neox": FUSED,
    "gpt2": FUSED,
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def quantile_plan(model: Any, level: float) -> Plan:
    found = magnitude_quantiles(model, [TEXT], [level], FIRST_TOKEN_DENSE)[level]
    assert set(found) == {site.name for site in model.sites}
    return Plan("teal", level, {site: Threshold(value) for site, value in found.items()})


def logits(model: Any, tokens: torch.Tensor = TEXT) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.model(input_ids=tokens[None]).logits[0]
    return found


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


@every_family
def test_every_matrix_of_the_blocks_is_one_site(family: str, small_model: Any) -> None:
    model = small_model(family)
    kinds = FAMILIES[family]
    assert [site.name for site in model.sites] == [
        f"{n}.{kind}" for n in range(3) for kind in kinds
    ]
    assert {part for site in model.sites for part in site.parts} == set(kinds) - {"qkv"} | (
        {"q", "k", "v"} if "qkv" in kinds else set()
    )
    sites = {id(site.module.weight) for site in model.sites}
    tables = {id(model.head.weight)} | {
        id(module.weight)
        for module in model.model.modules()
        if isinstance(module, torch.nn.Embedding)
    }
    matrices = {id(p) for p in model.model.parameters() if p.ndim >= 2}
    assert sites == matrices - tables
    assert all(type(site.module) is torch.nn.Linear for site in model.sites)
    shapes = {site.kind: tuple(site.module.weight.shape) for site in model.sites}
    assert shapes["up"] == shapes["down"][::-1] == (48, 32)
    rows = 64 if family.startswith("falcon") else 96  # its heads share a key and a value
    assert shapes.get("qkv", (rows, 32)) == (rows, 32)
    biased = {site.kind for site in model.sites if site.module.bias is not None}
    whole = {"opt": set(PLAIN), "gpt_neox": set(FUSED), "gpt2": set(FUSED), "qwen2": {*"qkv"}}
    assert biased == whole.get(family, set())


@every_family
def test_decoder_and_head_are_the_model(family: str, small_model: Any) -> None:
    model = small_model(family)
    check_head(model)
    seen: list[object] = []
    handle = model.decoder.register_forward_hook(lambda *_: seen.append(None))
    logits(model)
    handle.remove()
    assert len(seen) == 1  # plans hang on it: the whole model has to go through it


@every_family
def test_level_zero_is_dense_to_the_bit(family: str, small_model: Any) -> None:
    model = small_model(family)
    dense = logits(model)
    with sparsify(model, quantile_plan(model, 0.0)) as attached:
        attached.counting = True
        assert torch.equal(logits(model), dense)
        shares = {site: zeroed / seen for site, (zeroed, seen) in attached.achieved.counts.items()}
    # A ReLU's own zeros are zeros, and count; a GELU that underflows is one, too.
    assert all(not share for site, share in shares.items() if not site.endswith("down"))
    if family in ("opt", "arcee"):
        assert all(share > 0.2 for site, share in shares.items() if site.endswith("down"))


@every_family
def test_a_level_is_reached_and_undone_to_the_bit(family: str, small_model: Any) -> None:
    model = small_model(family)
    dense, before = logits(model), state(model)
    plan = quantile_plan(model, 0.5)
    with sparsify(model, plan) as attached:
        attached.counting = True
        sparse = logits(model)
        # Counted in the sparse model, calibrated in the dense one.
        assert attached.achieved.weighted == pytest.approx(0.5, abs=0.1)
        weights = attached.achieved.weights
    assert weights == {site.name: site.module.weight.numel() for site in model.sites}
    assert torch.isfinite(sparse).all()
    assert torch.equal(sparse[0], dense[0])  # the first token is dense
    assert not torch.allclose(sparse[1:], dense[1:], atol=1e-3)
    assert torch.equal(logits(model), dense)
    after = state(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@every_family
def test_a_sparse_layer_multiplies_what_is_kept(family: str, small_model: Any) -> None:
    model = small_model(family)
    plan = quantile_plan(model, 0.5)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            width = args[0].shape[-1]
            # Falcon adds to what down gives, in place.
            seen[name] = args[0].reshape(-1, width), output.reshape(len(TEXT), -1).clone()

        return hook

    with sparsify(model, plan):
        handles = [s.module.register_forward_hook(watch(s.name)) for s in model.sites]
        logits(model)
    for handle in handles:
        handle.remove()
    for site in model.sites:
        x, y = seen[site.name]
        kept = x[1:][x[1:] != 0].abs()
        assert kept.min() > plan.selectors[site.name].value  # type: ignore[attr-defined]
        expected = x @ site.module.weight.t()
        if site.module.bias is not None:
            expected = expected + site.module.bias
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@every_family
def test_vectors_fold_into_every_layer(family: str, small_model: Any) -> None:
    model = small_model(family)
    dense, plan = logits(model), quantile_plan(model, 0.5)
    vectors = mean_residual(model, plan, [TEXT])
    assert {name: len(a) for name, a in vectors.a.items()} == {
        site.name: site.module.in_features for site in model.sites
    }
    folded = vectors.fold(model)
    with sparsify(model, Plan(plan.method, plan.level, plan.selectors, plan.prefill, folded)):
        found = logits(model)
    with sparsify(model, plan):
        plain = logits(model)
        handles = [  # after S: y = W (S(x) + a) + b
            site.module.register_forward_pre_hook(
                lambda _, args, a=vectors.a[site.name]: (args[0] + a,)
            )
            for site in model.sites
        ]
        additive = logits(model)
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(found, additive, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(logits(model), dense)


@every_family
def test_vectors_are_trained(family: str, small_model: Any) -> None:
    model = small_model(family)
    stream = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(1))
    recipe = Recipe(steps=2, sequences=2, length=16, warmup=1, held_out=2, check_every=1)
    before = state(model)
    trained = train(model, quantile_plan(model, 0.5), [stream], recipe)
    assert set(trained.a) == {site.name for site in model.sites}
    assert len(trained.provenance["loss"]) == 2
    trained.fold(model)
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


@every_family
def test_decoding_steps_run_kernels(family: str, small_model: Any) -> None:
    model = small_model(family)
    vectors = {site.name: 0.1 * torch.ones(site.module.in_features) for site in model.sites}
    bias = SpontaneousVectors(vectors, {}).fold(model)
    plan = quantile_plan(model, 0.5)
    plan = Plan(plan.method, plan.level, plan.selectors, plan.prefill, bias)

    def decode() -> torch.Tensor:
        with torch.inference_mode():
            output = model.model(input_ids=TEXT[None, :8], use_cache=True)
            steps = []
            for place in range(8, 12):
                output = model.model(
                    input_ids=TEXT[None, place : place + 1],
                    past_key_values=output.past_key_values,
                    use_cache=True,
                )
                steps.append(output.logits[0])
        return torch.cat(steps)

    with sparsify(model, plan):
        masked = decode()
    with sparsify(model, plan, kernels="torch") as attached:
        assert attached.kernels == {site.name: "torch" for site in model.sites}
        torch.testing.assert_close(decode(), masked, rtol=1e-3, atol=1e-3)


@every_family
def test_a_twin_shares_its_memory(family: str, small_model: Any) -> None:
    model = small_model(family)
    dense, twin = logits(model), model.twin()
    ours, theirs = model.model.state_dict(), twin.model.state_dict()
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    with sparsify(twin, quantile_plan(model, 0.5)):
        assert not torch.equal(logits(twin), dense)
        assert torch.equal(logits(model), dense)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "falcon_alibi"])
def test_packed_sequences_are_those_of_separate_ones(family: str, small_model: Any) -> None:
    model = small_model(family)
    stem, one, other = TEXT[:10], TEXT[10:15], TEXT[15:22]
    packed = torch.cat([stem, one, other])
    positions = torch.cat([torch.arange(15), torch.arange(10, 17)])
    own = torch.tensor([0] * 10 + [1] * 5 + [2] * 7)
    sees = ((own[:, None] == own) | (own == 0)) & torch.ones(22, 22, dtype=torch.bool).tril()
    mask = torch.zeros(22, 22).masked_fill(~sees, torch.finfo(torch.float32).min)
    with sparsify(model, quantile_plan(model, 0.5)):
        found = hidden_states(model, packed, positions, mask)
        expected = [hidden_states(model, torch.cat([stem, each])) for each in (one, other)]
    # A threshold may fall on the other side of a rounding error.
    torch.testing.assert_close(found[:15], expected[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[15:], expected[1][10:], rtol=1e-3, atol=1e-3)


@every_family
def test_a_saved_model_is_loaded(family: str, small_model: Any, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(small_model(family).model.config)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), dtype="float32")
    assert [site.kind for site in loaded.sites if site.layer == 0] == list(FAMILIES[family])
    with torch.inference_mode():
        expected = model.eval()(input_ids=TEXT[None]).logits[0]
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-5)


def test_opt_with_norms_behind_and_projections_maps_too(small_model: Any) -> None:
    model = small_model("opt", do_layer_norm_before=False, word_embed_proj_dim=16)
    check_head(model)
    assert [site.kind for site in model.sites if site.layer == 0] == list(PLAIN)
    dense = logits(model)
    with sparsify(model, quantile_plan(model, 0.5)):
        assert not torch.equal(logits(model), dense)
    assert torch.equal(logits(model), dense)


@pytest.mark.parametrize("bias", [False, True])
def test_falcon_computes_the_same_with_linear_layers(bias: bool) -> None:
    config = transformers.FalconConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=257, bias=bias
    )
    model: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.requires_grad_(False)
    own = dict(model.named_parameters())
    kinds = {type(m).__name__ for m in model.modules() if isinstance(m, torch.nn.Linear)}
    assert kinds == {"FalconLinear", "Linear"}  # else there is nothing to exchange any more
    with torch.inference_mode():
        expected = model(TEXT[None]).logits
        use_linear_layers(model)
        found = model(TEXT[None]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(parameter is own[name] for name, parameter in model.named_parameters())
    assert {type(site.module) for site in find_sites(model)} == {torch.nn.Linear}


def test_gpt2_computes_the_same_with_linear_layers() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=257)
    model: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.requires_grad_(False)
    own = {name: p.clone() for name, p in model.named_parameters()}
    with torch.inference_mode():
        expected = model(TEXT[None]).logits
        use_linear_layers(model)
        found = model(TEXT[None]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    for site in find_sites(model):
        weight = site.module.weight
        assert weight.is_contiguous()
        name = next(n for n, p in model.named_parameters() if p is weight)
        assert torch.equal(weight, own[name].t())
