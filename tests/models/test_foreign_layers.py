"""Layers that other libraries put in place of linear ones, or change: what holds for their sites.

The stand-ins behave as those libraries' layers do; ``test_libraries.py`` runs the libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

from pytest_sparsity import (
    Plan,
    PrefillPolicy,
    SparsityError,
    SpontaneousVectors,
    Threshold,
    compress,
    sparsify,
    with_sites_found_anew,
)
from pytest_sparsity.hooks import OwnModel
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.plain_layers import difference
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer
from pytest_sparsity.models.weights import read_weight

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.arange(1, 13)[None]
CHANGED = "0.q"


class Packed(nn.Module):
    """As HQQ's layer: no ``nn.Linear``, whole numbers, and a weight that is made in every pass."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        scale = layer.weight.abs().amax(1, keepdim=True) / 127
        self.packed = nn.Parameter((layer.weight / scale).round().to(torch.int8), False)
        self.register_buffer("scale", scale)
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.packed * self.scale).t()


class Grouped(nn.Module):
    """As a GPTQ layer: four bits, eight of them in a whole number, input-major, in groups."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.t()  # [K, N]
        groups = weight.reshape(-1, 32, layer.out_features)
        scales = groups.abs().amax(1) / 7
        whole = (groups / scales[:, None]).round().long().reshape(weight.shape) + 8
        bits = 4 * torch.arange(8)[None, :, None]
        packed = (whole.reshape(-1, 8, layer.out_features) << bits).sum(1)
        self.register_buffer("qweight", (packed - (packed >> 31 << 32)).to(torch.int32))
        self.register_buffer("scales", scales)
        self.register_buffer("g_idx", torch.arange(layer.in_features) // 32)

    def forward(self, x: Tensor) -> Tensor:
        bits = 4 * torch.arange(8)[None, :, None]
        whole = ((self.qweight[:, None] >> bits) & 15).reshape(self.in_features, -1) - 8
        return x @ (whole * self.scales[self.g_idx])


class Adapted(nn.Module):
    """As PEFT's LoRA: the layer that it adapts is inside, and two small ones beside it."""

    merged = disable_adapters = False
    active_adapters = ("default",)

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.base_layer = layer
        lot = torch.Generator().manual_seed(2)
        self.a = nn.Linear(layer.in_features, 4, bias=False)
        self.b = nn.Linear(4, layer.out_features, bias=False)
        for each in (self.a, self.b):
            each.weight = nn.Parameter(torch.randn(each.weight.shape, generator=lot) / 8, False)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.b(self.a(x))


class Rounded(nn.Linear):
    """As torchao's layer for training with rounded weights: an ``nn.Linear`` by class."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, (self.weight * 8).round() / 8, self.bias)


class OwnTensor(torch.Tensor):
    """As the tensors of libraries that quantise: operations on it may do anything."""


def rounded(layer: nn.Linear) -> nn.Module:
    new = Rounded(layer.in_features, layer.out_features, bias=False, device="meta")
    new.weight = layer.weight
    return new


def replaced(layer: nn.Linear) -> nn.Module:
    plain = layer.forward
    layer.forward = lambda x: 1.5 * plain(x)  # type: ignore[method-assign]
    return layer


def own_tensor(layer: nn.Linear) -> nn.Module:
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(OwnTensor), False)
    return layer


def parametrized(layer: nn.Linear) -> nn.Module:
    torch.nn.utils.parametrizations.weight_norm(layer)
    return layer.requires_grad_(False)


def offloaded(layer: nn.Linear) -> nn.Module:
    import accelerate

    return accelerate.cpu_offload(layer)


CHANGES: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "packed": Packed,
    "grouped": Grouped,
    "adapted": Adapted,
    "rounded": rounded,
    "replaced": replaced,
    "own tensor": own_tensor,
    "parametrized": parametrized,
    "offloaded": offloaded,
}


def built(change: Callable[[nn.Linear], nn.Module]) -> Any:
    model = tiny_model(1).eval().requires_grad_(False)
    attention = model.model.layers[0].self_attn
    attention.q_proj = change(attention.q_proj)
    return model


@pytest.fixture(params=CHANGES)
def changed(request: pytest.FixtureRequest) -> Any:
    """tiny-random with another layer at 0.q."""
    change = CHANGES[request.param]
    return OwnModel("changed", lambda: (built(change), tiny_tokenizer())).load(dtype="float32")


def plan_of(model: Any, **bias: Tensor) -> Plan:
    selectors = {site.name: Threshold(0.5) for site in model.sites}
    return Plan("teal", 0.5, selectors, PrefillPolicy("none"), {CHANGED: bias["q"]} if bias else {})


def logits(model: Any, tokens: Tensor = TEXT) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.model(input_ids=tokens).logits
    return found


@contextmanager
def plain_hooks(model: Any, add: float = 0.0) -> Any:
    """What a plan should come to: masked inputs, and a constant behind one layer."""

    def mask(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.where(args[0].abs() > 0.5, args[0], 0), *args[1:])

    handles = [site.module.register_forward_pre_hook(mask) for site in model.sites]
    if add:
        layer = next(site.module for site in model.sites if site.name == CHANGED)
        handles.append(layer.register_forward_hook(lambda own, args, output: output + add))
    yield
    for handle in handles:
        handle.remove()


def test_masked_with_what_the_layer_computes(changed: Any) -> None:
    dense = logits(changed)
    with plain_hooks(changed):
        expected = logits(changed)
    assert not torch.allclose(expected, dense, atol=0.1)
    with sparsify(changed, plan_of(changed)) as attached:
        attached.counting = True
        torch.testing.assert_close(logits(changed), expected, rtol=0, atol=1e-6)
        zeroed, seen = attached.achieved.counts[CHANGED]
        assert 0 < zeroed < seen
        assert attached.achieved.weights[CHANGED] == 64 * 64
    assert torch.equal(logits(changed), dense)


def test_auto_leaves_it_to_masks_and_a_named_kernel_is_refused(changed: Any) -> None:
    step = TEXT[:, :1]
    with sparsify(changed, plan_of(changed)):
        expected = logits(changed, step)
    with sparsify(changed, plan_of(changed), "auto") as attached:
        assert CHANGED not in attached.kernels
        torch.testing.assert_close(logits(changed, step), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(SparsityError, match=r"kernels='cpu' cannot be used: the layer of 0\.q is"):
        sparsify(changed, plan_of(changed), "cpu")
    assert torch.equal(logits(changed, step), logits(changed, step))


def test_a_constant_is_added_to_what_it_gives(changed: Any) -> None:
    dense = logits(changed)
    with plain_hooks(changed, add=0.25):
        expected = logits(changed)
    with sparsify(changed, plan_of(changed, q=torch.full((64,), 0.25))):
        torch.testing.assert_close(logits(changed), expected, rtol=0, atol=1e-5)
    assert torch.equal(logits(changed), dense)


def test_its_weight_is_read_by_what_it_gives(changed: Any) -> None:
    site = next(site for site in changed.sites if site.name == CHANGED)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(4))
    weight = read_weight(site, changed)
    with torch.no_grad():
        torch.testing.assert_close(x @ weight.t(), site.module(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(column_norms(site, changed), weight.norm(dim=0))
    folded = SpontaneousVectors({CHANGED: x[0]}, {}).fold(changed)
    torch.testing.assert_close(folded[CHANGED], weight @ x[0])


def test_a_plain_weight_is_read_as_it_is(tiny: Any) -> None:
    from pytest_sparsity.models.weights import _effective_weight

    layer = tiny.sites[0].module
    assert read_weight(tiny.sites[0], tiny).data_ptr() == layer.weight.data_ptr()
    assert torch.equal(_effective_weight(layer, torch.empty(0)), layer.weight)


@pytest.mark.parametrize("scheme", ["int8", "magnitude-0.5", "bfloat16"])
def test_it_is_not_compressed(changed: Any, scheme: str) -> None:
    with pytest.raises(SparsityError, match=r"the weight of 0\.q in changed (is stored|cannot be)"):
        compress(changed, scheme)


def test_a_twin_has_it_as_well(changed: Any) -> None:
    dense = logits(changed)
    twin = changed.twin()
    with sparsify(twin, plan_of(twin, q=torch.ones(64))):
        assert not torch.allclose(logits(twin), dense, atol=0.1)
        assert torch.equal(logits(changed), dense)


def test_what_is_no_product_has_no_weight(tiny: Any) -> None:
    twin = tiny.twin()
    layer = twin.sites[0].module
    plain = layer.forward
    layer.forward = lambda x: plain(x).tanh() * 9
    with pytest.raises(SparsityError, match="does not compute a product with one matrix"):
        read_weight(twin.sites[0], twin)


def test_models_that_differ_in_such_layers_have_other_hashes() -> None:
    changes = [lambda layer: layer, Packed, Adapted, own_tensor]
    hashes = {
        OwnModel("own-one", lambda c=change: (built(c), tiny_tokenizer())).load().weights_hash
        for change in changes[:3]
    }
    assert len(hashes) == 3


def test_offloaded_weights_are_hashed_as_others() -> None:
    plain, away = (
        OwnModel("own-one", lambda c=change: (built(c), tiny_tokenizer())).load(dtype="float32")
        for change in (lambda layer: layer, offloaded)
    )
    assert away.weights_hash == plain.weights_hash


def test_an_adapter_is_told_of() -> None:
    own = OwnModel("own-one", lambda: (built(Adapted), tiny_tokenizer()))
    assert own.load().notice == "its adapters are applied beside the weights, unmerged (default)"


def test_such_a_model_is_not_cast() -> None:
    own = OwnModel("own-one", lambda: (built(Packed), tiny_tokenizer()))
    assert own.load().dtype == torch.float32
    with pytest.raises(SparsityError, match="which cannot be cast to bfloat16; build it in that"):
        own.load(dtype="bfloat16")


def test_a_whole_model_offloaded_after_loading(tiny: Any) -> None:
    import accelerate

    twin = tiny.twin()
    plan = plan_of(twin, q=torch.full((64,), 0.25))
    with sparsify(twin, plan):
        expected = hidden_states(twin, TEXT[0])
    accelerate.cpu_offload(twin.model)
    assert twin.device.type == "cpu"
    with sparsify(twin, plan) as attached:
        torch.testing.assert_close(hidden_states(twin, TEXT[0]), expected, rtol=0, atol=1e-5)
        assert not attached.kernels


@pytest.mark.parametrize("change", ["packed", "adapted", "parametrized", "offloaded"])
def test_families_that_are_mapped_by_a_pass(change: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    more = {"vocab_size": 257, "num_hidden_layers": 2, "pad_token_id": 256}
    model = Phi3ForCausalLM(Phi3Config(**sizes, **more)).eval().requires_grad_(False)
    for block in model.model.layers:
        block.self_attn.qkv_proj = CHANGES[change](block.self_attn.qkv_proj)
    found = OwnModel("phi", lambda: (model, tiny_tokenizer())).load(dtype="float32")
    kinds = ("qkv", "o", "gate_up", "down")
    assert {s.name for s in found.sites} == {f"{n}.{kind}" for n in (0, 1) for kind in kinds}
    with plain_hooks(found):
        expected = logits(found)
    assert not torch.allclose(expected, logits(found), atol=0.01)
    with sparsify(found, plan_of(found)):
        assert torch.equal(logits(found), expected)


def test_offloaded_layers_that_would_be_exchanged_are_refused() -> None:
    import accelerate

    from pytest_sparsity.models.backbone import use_linear_layers

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=257, n_embd=64, n_layer=1, n_head=4)
    model = accelerate.cpu_offload(GPT2LMHeadModel(config).eval())
    with pytest.raises(SparsityError, match="the weights of a Conv1D are offloaded, and it has"):
        use_linear_layers(model)


# --- a model that was changed after its sites were found


@pytest.mark.parametrize("change", [Packed, Adapted, rounded])
def test_an_exchanged_layer_is_an_error(tiny: Any, change: Any) -> None:
    twin = tiny.twin()
    attention = twin.model.model.layers[0].self_attn
    attention.q_proj = change(attention.q_proj)
    for work in (
        lambda: sparsify(twin, plan_of(twin)),
        twin.twin,
        lambda: compress(twin, "int8"),
    ):
        with pytest.raises(SparsityError) as caught:
            work()
        said = str(caught.value)
        assert said.startswith("the layer of site 0.q is no longer what tiny-random calls: a ")
        assert f"{change.__name__.capitalize()} stands at model.layers.0.self_attn.q_proj" in said
        assert "with_sites_found_anew(model)" in said
    anew = with_sites_found_anew(twin)
    assert anew.weights_hash != twin.weights_hash
    with plain_hooks(anew):
        expected = logits(anew)
    with sparsify(anew, plan_of(anew)):
        assert torch.equal(logits(anew), expected)


def test_a_layer_that_was_taken_out(tiny: Any) -> None:
    twin = tiny.twin()
    twin.model.model.layers = twin.model.model.layers[:2]
    with pytest.raises(SparsityError, match=r"site 2\.q is no longer .* nothing stands at"):
        sparsify(twin, plan_of(twin))


def test_what_is_around_a_layer_may_be_wrapped(tiny: Any) -> None:
    twin = tiny.twin()
    with sparsify(twin, plan_of(twin)):
        expected = logits(twin)
    block = twin.model.model.layers[0]
    block.mlp = nn.Sequential(block.mlp)
    with sparsify(twin, plan_of(twin)):
        assert torch.equal(logits(twin), expected)


@pytest.mark.parametrize("part", ["model", "layer", "forward", "module"])
def test_a_compiled_model_is_refused(tiny: Any, part: str) -> None:
    twin = tiny.twin()
    decoder = twin.model.model
    if part == "model":
        twin.model.compile(backend="eager")
    elif part == "layer":
        decoder.layers[1].compile(backend="eager")
    elif part == "forward":
        decoder.forward = torch.compile(decoder.forward, backend="eager")
    else:
        decoder.layers[2].mlp = torch.compile(decoder.layers[2].mlp, backend="eager")
    with pytest.raises(SparsityError, match="was compiled before a plan is attached"):
        sparsify(twin, plan_of(twin))


def test_a_model_that_is_split_over_processes_is_refused(tiny: Any) -> None:
    twin = tiny.twin()
    twin.model._tp_size = 2
    with pytest.raises(SparsityError, match="is split over 2 processes by a tensor parallel plan"):
        sparsify(twin, plan_of(twin))


# --- what is plain


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.float32, None),
        (torch.bfloat16, None),
        (torch.int8, "stores its weight as int8"),
        (torch.float8_e4m3fn, "stores its weight as float8_e4m3fn"),
    ],
)
def test_stored_as(dtype: torch.dtype, said: str | None) -> None:
    layer = nn.Linear(4, 6, bias=False)
    layer.weight = nn.Parameter(layer.weight.detach().to(dtype), False)
    assert difference(layer) == said


def test_hooks_and_classes_with_the_same_forward_are_plain() -> None:
    class Named(nn.Linear):
        pass

    layer = Named(4, 6)
    layer.register_forward_hook(lambda own, args, output: output * 2)
    assert difference(layer) is None


def test_hooks_are_called_around_kernels(tiny: Any) -> None:
    twin = tiny.twin()
    step = TEXT[:, :1]
    with sparsify(twin, plan_of(twin)):
        without = logits(twin, step)
    for number in (0, 4):
        twin.sites[number].module.register_forward_hook(lambda own, args, output: output * 2)
        twin.sites[number].module.register_forward_pre_hook(lambda own, args: (args[0] + 0.1,))
    with sparsify(twin, plan_of(twin)):
        expected = logits(twin, step)
    assert not torch.allclose(expected, without, atol=0.1)
    with sparsify(twin, plan_of(twin), "torch") as attached:
        assert len(attached.kernels) == len(twin.sites)
        torch.testing.assert_close(logits(twin, step), expected, rtol=1e-4, atol=1e-4)


def test_flattened_weights_are_packed() -> None:
    layer = nn.Linear(4, 6)
    layer.weight = nn.Parameter(layer.weight.detach().flatten()[:0], False)
    assert difference(layer) == "packs its weight (it has shape [0], not [6, 4])"


class OfGpus(nn.Module):
    """As FP8 layers: their kernel is for a GPU."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no kernel for this device")


def built_with(make: Any) -> Any:
    """What an ``OwnModel`` builds: tiny-random with another layer in place of one of its own."""
    model = tiny_model(1)
    mlp: Any = model.model.layers[1].mlp
    mlp.down_proj = make(mlp.down_proj)
    return model, tiny_tokenizer()


def test_layers_that_do_not_run_here_are_one_sentence(tiny: Any) -> None:
    said = (
        "--sparsity-model mine: its layers OfGpus do not run on cpu (RuntimeError: no kernel for "
        "this device); take a machine that they are made for with --sparsity-target, or build the "
        "model from weights that are not quantised"
    )
    with pytest.raises(SparsityError) as caught:
        OwnModel("mine", lambda: built_with(OfGpus), licence="MIT").load()
    assert str(caught.value) == said
    twin = tiny.twin()
    mlp = twin.model.model.layers[1].mlp
    mlp.down_proj = OfGpus(mlp.down_proj)
    with pytest.raises(SparsityError, match="its layers OfGpus do not run on cpu"):
        with_sites_found_anew(twin)
    assert not mlp.down_proj._forward_pre_hooks
    assert not mlp.down_proj._forward_hooks


def test_the_fp8_layer_of_transformers_runs_or_is_one_sentence() -> None:
    integration = pytest.importorskip("transformers.integrations.finegrained_fp8")

    def make(layer: nn.Linear) -> nn.Module:
        new: nn.Module = integration.FP8Linear(
            layer.in_features, layer.out_features, block_size=(32, 32)
        )
        for parameter in new.parameters():
            parameter.data.fill_(1)
        return new

    refused = ""
    try:
        logits(OwnModel("mine", lambda: built_with(make), licence="MIT").load())
    except SparsityError as error:
        refused = str(error)
    assert not refused or "its layers FP8Linear do not run on cpu (" in refused
