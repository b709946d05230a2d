"""Kernels for plans by neurons: which MLPs and passes run them, and that they change no number."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_sparsity import SparsityError
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.hot_cold_mlp import hot_cold_mlp
from pytest_sparsity.methods import neuron_kernels
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.neurons.predictor import LayerPredictor
from pytest_sparsity.methods.neurons.selectors import (
    FixedNeurons,
    LargestNeurons,
    PredictedNeurons,
)
from pytest_sparsity.methods.plan import GATE, HIDDEN, INPUT, RESIDUAL, Plan, Threshold
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.models import load_model
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs, error_bound
from pytest_sparsity.reference.hot_cold_mlp import hot_cold_mlp as reference_mlp
from pytest_sparsity.reference.precision import Precision, output_bound, tolerance_used

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 256, (24,), generator=torch.Generator().manual_seed(3))
PROMPT = 8
STEPS = len(TEXT) - PROMPT
LAYERS = 3
KINDS = ("gate", "up", "down")


@pytest.fixture
def tiny() -> Any:
    """One of its own: hooks that other tests leave on theirs keep an MLP from kernels."""
    return load_model("tiny-random", dtype="float32")


class Calls(list[tuple[int, int]]):
    """(rows, neurons kept) of every call of the kernel under test, but for those at attaching."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A kernel called ``watched`` is registered while the test runs."""
    seen = Calls()
    monkeypatch.setattr(registry, "_KERNELS", dict(registry.registered()))
    monkeypatch.setattr(neuron_kernels, "_TRIED", {})

    @sparse_kernel(op="hot_cold_mlp", backend="watched", intermediate="operand")
    def watched(x: Tensor, down: Tensor, hot: int, cold: Tensor, **others: Any) -> Tensor:
        assert down.stride(0) == 1
        assert hot == 0
        seen.append((x.shape[0], len(cold)))
        return hot_cold_mlp(x=x, down=down, hot=hot, cold=cold, **others)

    return seen


def downs(model: Any) -> list[Any]:
    return [site for site in model.sites if site.kind == "down"]


def predicted(site: Any, reads: str = INPUT, share: float = 0.5) -> PredictedNeurons:
    """Selects by a random predictor."""
    width, neurons = site.module.out_features, site.module.in_features
    lot = torch.Generator().manual_seed(site.layer)
    first, second = (torch.randn(*s, generator=lot) for s in ((8, width), (neurons, 8)))
    dropped = round(share * neurons)
    return PredictedNeurons(dropped, LayerPredictor(first, second), KINDS, reads)


def plan_of(
    model: Any,
    select: Callable[[Any], Any] = predicted,
    policy: str = "first:1",
    **given: Any,
) -> Plan:
    neurons = {site.name: select(site) for site in downs(model)}
    if "gate" not in {site.kind for site in model.sites}:
        neurons = {down: replace(own, skips=KINDS[1:]) for down, own in neurons.items()}
    return Plan("by neurons", 0.5, {}, PrefillPolicy(policy), neurons=neurons, **given)


def fixed(site: Any) -> FixedNeurons:
    lot = torch.Generator().manual_seed(site.layer)
    return FixedNeurons(torch.rand(site.module.in_features, generator=lot) < 0.5, KINDS)


def constant(model: Any, kind: str = "down") -> dict[str, Tensor]:
    """A folded bias at every site of a kind."""
    lot = torch.Generator().manual_seed(5)
    return {
        site.name: 0.1 * torch.randn(site.module.out_features, generator=lot)
        for site in model.sites
        if site.kind == kind
    }


def decode(model: Any, rows: int = 1, prompt: int = PROMPT) -> tuple[Tensor, Tensor]:
    """Logits of the prompt, and of the steps after it, [rows, T, V] each."""
    tokens = torch.stack([TEXT.roll(row) for row in range(rows)])
    with torch.inference_mode():
        output = model.model(input_ids=tokens[:, :prompt], use_cache=True)
        whole, steps = output.logits, []
        for place in range(prompt, tokens.shape[1]):
            output = model.model(
                input_ids=tokens[:, place : place + 1],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            steps.append(output.logits)
    return whole, torch.cat(steps, 1)


def assert_same(found: tuple[Tensor, Tensor], masked: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(found[0], masked[0])
    torch.testing.assert_close(found[1], masked[1], rtol=1e-3, atol=1e-3)


def block_of(model: Any, layer: int) -> nn.Module:
    found: nn.Module = model.block_of(
        [site for site in model.sites if site.layer == layer and site.kind in KINDS]
    )
    return found


# --- numbers


@pytest.mark.parametrize("select", ["input", "residual", "fixed"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "arcee"])
def test_steps_are_those_of_masked_layers(
    family: str, select: str, small_model: Callable[..., Any], calls: Calls
) -> None:
    model = small_model(family)
    plan = plan_of(model, fixed if select == "fixed" else lambda site: predicted(site, select))
    with sparsify(model, plan):
        masked = decode(model)
    assert not calls
    with sparsify(model, plan, kernels="watched") as attached:
        kinds = KINDS[1:] if family == "arcee" else KINDS
        sites = [site.name for site in model.sites if site.kind in kinds]
        assert attached.kernels == dict.fromkeys(sites, "watched")
        calls.clear()
        assert_same(decode(model), masked)
    assert len(calls) == LAYERS * STEPS
    assert {rows for rows, _ in calls} == {1}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kernels", ["none", "cpu"])
def test_every_step_is_within_the_bound_of_the_op(kernels: str, dtype: str, biased: bool) -> None:
    model = load_model("tiny-random", dtype=dtype)
    plan = plan_of(model, bias=constant(model) if biased else {})
    steps: list[tuple[int, Tensor, Tensor]] = []
    with sparsify(model, plan, kernels=kernels) as attached:
        for layer in range(LAYERS):

            def hook(_: Any, args: Any, output: Tensor, layer: int = layer) -> None:
                if args[0].shape[1] == 1:
                    steps.append((layer, args[0][0].clone(), output[0].clone()))

            block_of(model, layer).register_forward_hook(hook)
        biases = {site.layer: site.module.bias for site in downs(model)}
        decode(model)
        assert set(attached.kernels.values()) == ({"cpu"} if kernels == "cpu" else set())
    modules = {site.name: site.module for site in model.sites}
    intermediate = torch.float32 if kernels == "cpu" else model.dtype
    precision = Precision(model.dtype, torch.float32, intermediate)
    assert len(steps) == LAYERS * STEPS
    for layer, x, y in steps:
        gate, up, down = (modules[f"{layer}.{kind}"].weight for kind in KINDS)
        kept = plan.neurons[f"{layer}.down"].keeps(x)[0].nonzero().squeeze(1).int()
        assert 0 < len(kept) < len(up)
        inputs = HotColdMlpInputs(x, up, down, 0, kept, "silu", gate)
        reference, bound = reference_mlp(inputs), error_bound(inputs, precision)
        if biased:
            reference = reference + biases[layer].double()
            bound = bound + output_bound(reference, model.dtype)
        assert float(tolerance_used(y, reference, bound).max()) <= 1


def test_a_bias_of_down_itself_is_added(small_model: Callable[..., Any], calls: Calls) -> None:
    model = small_model("llama")
    for site in downs(model):
        site.module.bias = nn.Parameter(constant(model)[site.name], requires_grad=False)
    plan = plan_of(model)
    with sparsify(model, plan):
        masked = decode(model)
    with sparsify(model, plan, kernels="watched") as attached:
        assert len(attached.kernels) == LAYERS * len(KINDS)
        assert_same(decode(model), masked)
    both = replace(plan, bias=constant(model))
    with sparsify(model, both):
        masked = decode(model)
    with sparsify(model, both, kernels="watched"):
        assert_same(decode(model), masked)


def test_a_token_may_keep_no_neuron_or_all(tiny: Any) -> None:
    for share in (0.0, 1.0):
        plan = plan_of(tiny, lambda site, share=share: predicted(site, INPUT, share))  # type: ignore[misc]
        with sparsify(tiny, plan):
            masked = decode(tiny)
        with sparsify(tiny, plan, kernels="cpu") as attached:
            assert attached.kernels
            assert_same(decode(tiny), masked)


def test_fixed_neurons_are_listed_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tiny, fixed)
    with sparsify(tiny, plan, kernels="cpu"), torch.inference_mode():
        cache = tiny.model(input_ids=TEXT[None], use_cache=True).past_key_values
        monkeypatch.setattr(FixedNeurons, "keeps", None)
        tiny.model(input_ids=TEXT[None, :1], past_key_values=cache)


@pytest.mark.parametrize("select", [predicted, fixed])
def test_counts_are_those_of_masked_layers(
    select: Callable[[Any], Any], tiny: Any, calls: Calls
) -> None:
    plan = plan_of(tiny, select)
    counts = []
    for kernels in ("none", "watched"):
        with sparsify(tiny, plan, kernels=kernels) as attached:
            decode(tiny)
            attached.counting = True
            decode(tiny)
            counts.append(attached.achieved.counts)
    assert calls
    assert counts[0] == counts[1]
    assert set(counts[0]) == {site.name for site in tiny.sites if site.kind in KINDS}


# --- which passes


def test_prefills_and_batches_stay_masked(tiny: Any, calls: Calls) -> None:
    plan = plan_of(tiny)
    with sparsify(tiny, plan):
        masked = decode(tiny, rows=2)
    with sparsify(tiny, plan, kernels="watched"), torch.inference_mode():
        calls.clear()
        tiny.model(input_ids=TEXT[None])
        tiny.model(input_ids=TEXT[:1, None])  # one token, which the policy keeps dense
        assert all(map(torch.equal, decode(tiny, rows=2), masked))
    assert not calls


@pytest.mark.parametrize(("policy", "sparse_steps"), [("none", 21), ("first:6", 18)])
def test_steps_that_a_policy_keeps_dense(
    policy: str, sparse_steps: int, tiny: Any, calls: Calls
) -> None:
    plan = plan_of(tiny, policy=policy)
    with sparsify(tiny, plan):
        masked = decode(tiny, prompt=3)
    with sparsify(tiny, plan, kernels="watched"):
        calls.clear()
        assert_same(decode(tiny, prompt=3), masked)
    assert len(calls) == LAYERS * sparse_steps


def test_gradients_do_not_meet_kernels(tiny: Any, calls: Calls) -> None:
    embeddings = tiny.decoder.get_input_embeddings()(TEXT[None, :1]).requires_grad_()
    with sparsify(tiny, plan_of(tiny, policy="none"), kernels="watched"):
        calls.clear()
        tiny.model(inputs_embeds=embeddings).logits.sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    assert not calls


def test_an_mlp_called_by_itself_is_no_step(tiny: Any, calls: Calls) -> None:
    x = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    plan = plan_of(tiny)
    with sparsify(tiny, plan):
        masked = block_of(tiny, 0)(x)
    with sparsify(tiny, plan, kernels="watched"):
        calls.clear()
        assert torch.equal(block_of(tiny, 0)(x), masked)
    assert not calls


def test_threads_keep_their_own_steps_apart(tiny: Any) -> None:
    plan = plan_of(tiny, lambda site: predicted(site, RESIDUAL))
    with sparsify(tiny, plan, kernels="cpu"):
        expected = [decode(tiny, prompt=prompt) for prompt in (4, 12)]
        found: list[list[tuple[Tensor, Tensor]]] = [[], []]
        start = threading.Barrier(2)

        def run(place: int) -> None:
            start.wait()
            for _ in range(5):
                found[place].append(decode(tiny, prompt=(4, 12)[place]))

        threads = [threading.Thread(target=run, args=(place,)) for place in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for own, all_found in zip(expected, found, strict=True):
        assert len(all_found) == 5
        assert all(torch.equal(*pair) for each in all_found for pair in zip(own, each, strict=True))


def test_detaching_gives_everything_back(tiny: Any, calls: Calls) -> None:
    dense = decode(tiny)
    stored = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    layout = {name: tensor.stride() for name, tensor in tiny.model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny.model.modules()]
    own = block_of(tiny, 0)
    vars(own)["forward"] = original = own.forward  # as other libraries do
    try:
        attached = sparsify(tiny, plan_of(tiny, bias=constant(tiny)), kernels="watched")
        assert vars(own)["forward"] is not original
        assert not torch.allclose(decode(tiny)[1], dense[1], atol=1e-2)
        attached.detach()
        attached.detach()
        assert vars(own).pop("forward") is original
    finally:
        vars(own).pop("forward", None)
    assert not any("forward" in vars(module) for module in tiny.model.modules())
    assert all(map(torch.equal, decode(tiny), dense))
    for name, tensor in tiny.model.state_dict().items():
        assert torch.equal(tensor, stored[name])
        assert tensor.stride() == layout[name]
    after = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny.model.modules()]
    assert after == hooks


def test_an_interrupted_step_leaves_nothing_behind(tiny: Any, calls: Calls) -> None:
    def stop(*_: Any) -> None:
        raise KeyError("stop")

    with sparsify(tiny, plan_of(tiny, lambda site: predicted(site, RESIDUAL)), kernels="watched"):
        expected = decode(tiny)
        handle = block_of(tiny, 1).register_forward_pre_hook(stop)
        with pytest.raises(KeyError, match="stop"):
            decode(tiny, prompt=1)
        handle.remove()
        assert all(map(torch.equal, decode(tiny), expected))


# --- which MLPs


class Bamboo(nn.Module):
    """down(relu(gate x) * relu(up x)), over the layers of another MLP."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down_proj(self.gate_proj(x).relu() * self.up_proj(x).relu())
        return found


class Doubled(nn.Module):
    """An MLP in a wrapping with a weight of its own."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.mlp = mlp
        self.factor = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.factor * self.mlp(x)
        return found


class Scaled(nn.Module):
    """An MLP whose forward does more than its class says."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x: Tensor, factor: float = 1.001) -> Tensor:
        gate = nn.functional.silu(self.gate_proj(x))
        found: Tensor = self.down_proj(factor * gate * self.up_proj(x))
        return found


class Residual(Scaled):
    """An MLP that wants to know what its result is added to."""

    def forward(self, x: Tensor, residual: Any) -> Tensor:  # type: ignore[override]
        return super().forward(x, 1.0)


def _with(model: Any, make: Callable[[Any], Any]) -> Any:
    for block in model.decoder.layers:
        block.mlp = make(block.mlp)
    return model


def _acting(model: Any, act: nn.Module) -> Any:
    for block in model.decoder.layers:
        block.mlp.act_fn = act
    return model


#: Models that no kernel computes, from the maker of small ones.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "biases of gate and up": lambda make: make("llama", mlp_bias=True),
    "OPT": lambda make: make("opt"),
    "GPT-NeoX": lambda make: make("gpt_neox"),
    "dReLU": lambda make: _with(make("llama"), Bamboo),
    "more than the op": lambda make: _with(make("llama"), Scaled),
    "exact GELU": lambda make: _acting(make("llama"), nn.GELU()),
    "a threshold above zero": lambda make: _acting(make("arcee"), nn.Threshold(0.01, 0.0)),
    "a tiny threshold": lambda make: _acting(make("llama"), nn.Threshold(0.0003, 0.0)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_mlps_stay_masked(name: str, small_model: Callable[..., Any], calls: Calls) -> None:
    model = OTHERS[name](small_model)
    plan = plan_of(model)
    with sparsify(model, plan):
        masked = decode(model)
    with sparsify(model, plan, kernels="watched") as attached:
        assert not attached.kernels
        assert all(map(torch.equal, decode(model), masked))
    assert not calls


def test_a_wrapping_with_a_weight_is_left_to_what_it_wraps(
    small_model: Callable[..., Any], calls: Calls
) -> None:
    model = _with(small_model("llama"), Doubled)
    plan = plan_of(model)
    with sparsify(model, plan):
        masked = decode(model)
    with sparsify(model, plan, kernels="watched") as attached:
        assert attached.kernels
        assert_same(decode(model), masked)
    assert calls


def test_a_module_with_more_weights_is_not_called(small_model: Callable[..., Any]) -> None:
    class Routed(Scaled):
        def __init__(self, mlp: Any) -> None:
            super().__init__(mlp)
            self.router = nn.Parameter(torch.ones(1), requires_grad=False)

        def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
            raise AssertionError("it may do anything")

    model = _with(small_model("llama"), Routed)
    plan = plan_of(model, fixed)
    with sparsify(model, plan, kernels="cpu") as attached:
        assert not attached.kernels


def test_weights_that_prove_nothing_stay_masked(small_model: Callable[..., Any]) -> None:
    model = small_model("llama")
    for site in model.sites:
        if site.name == "1.up":
            site.module.weight.fill_(torch.nan)
    with sparsify(model, plan_of(model), kernels="cpu") as attached:
        assert set(attached.kernels) == {f"{layer}.{kind}" for layer in (0, 2) for kind in KINDS}


def test_another_dtype_does_not_reach_a_kernel(tiny: Any, calls: Calls) -> None:
    with sparsify(tiny, plan_of(tiny), kernels="watched") as attached:
        calls.clear()
        attached._dense.decoding = True
        with pytest.raises(RuntimeError, match="dtype"):
            block_of(tiny, 0)(torch.zeros(1, 1, 64, dtype=torch.float64))
    assert not calls


def test_a_module_that_takes_more_than_x_is_not_called(small_model: Callable[..., Any]) -> None:
    model = _with(small_model("llama"), Residual)
    with sparsify(model, plan_of(model), kernels="cpu") as attached:
        assert not attached.kernels
        assert not any("forward" in vars(module) for module in model.model.modules())


def test_arguments_that_were_not_proven_are_masked(
    small_model: Callable[..., Any], calls: Calls
) -> None:
    class Optional(Scaled):
        def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
            return super().forward(x, factor)

    model = _with(small_model("llama"), Optional)
    with sparsify(model, plan_of(model), kernels="watched") as attached:
        assert attached.kernels
        attached._dense.decoding = True
        calls.clear()
        x = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
        one = block_of(model, 0)(x)
        assert len(calls) == 1
        torch.testing.assert_close(block_of(model, 0)(x, factor=3.0), 3 * one)
        torch.testing.assert_close(block_of(model, 0)(x, 3.0), 3 * one)
        assert len(calls) == 1


class GateSelector:
    """Decides by act(gate x), and has a mask nevertheless."""

    reads, skips, mask = GATE, ("up", "down"), torch.ones(160, dtype=torch.bool)

    def keeps(self, read: Tensor) -> Tensor:
        return read.abs() > 0.01


class Fickle:
    """Has a mask, and does not keep to it."""

    reads, skips = HIDDEN, KINDS

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def keeps(self, read: Tensor) -> Tensor:
        return read.abs() > 0.01


@pytest.mark.parametrize(
    "select",
    [
        lambda site: LargestNeurons(80, site.module.weight.norm(dim=0), KINDS),
        lambda site: GateSelector(),
        lambda site: Fickle(torch.ones(160, dtype=torch.bool)),
        lambda site: Fickle(torch.ones(1, dtype=torch.bool)),
        lambda site: Fickle("a mask"),
    ],
)
def test_selectors_that_decide_afterwards_stay_masked(
    select: Callable[[Any], Any], tiny: Any, calls: Calls
) -> None:
    plan = plan_of(tiny, select)
    with sparsify(tiny, plan):
        masked = decode(tiny)
    with sparsify(tiny, plan, kernels="watched") as attached:
        assert not attached.kernels
        assert all(map(torch.equal, decode(tiny), masked))
    assert not calls


@pytest.mark.parametrize("what", ["selector", "bias", "hook before", "hook after"])
def test_what_else_happens_inside_an_mlp_keeps_it_masked(
    what: str, tiny: Any, calls: Calls
) -> None:
    plan, handles = plan_of(tiny), []
    if what == "selector":
        plan = replace(plan, selectors={"1.up": Threshold(0.1)})
    elif what == "bias":
        plan = replace(plan, bias={"1.gate": constant(tiny, "gate")["1.gate"]})
    else:
        site = next(site for site in tiny.sites if site.name == "1.down")
        if what == "hook before":
            handles = [site.module.register_forward_pre_hook(lambda layer, args: None)]
        else:
            handles = [site.module.register_forward_hook(lambda layer, args, output: None)]
    try:
        with sparsify(tiny, plan):
            masked = decode(tiny)
        with sparsify(tiny, plan, kernels="watched" if what != "selector" else "torch") as attached:
            left = {name for name in attached.kernels if name not in plan.selectors}
            assert left == {f"{layer}.{kind}" for layer in (0, 2) for kind in KINDS}
            assert_same(decode(tiny), masked)
    finally:
        for handle in handles:
            handle.remove()


def test_a_kernel_that_is_wrong_is_not_used(tiny: Any, calls: Calls) -> None:
    @sparse_kernel(op="hot_cold_mlp", backend="wrong")
    def wrong(**operands: Any) -> Tensor:
        return 1.001 * hot_cold_mlp(**operands)

    with sparsify(tiny, plan_of(tiny), kernels="wrong") as attached:
        assert not attached.kernels


def test_another_number_of_neurons_does_not_reach_a_kernel(tiny: Any) -> None:
    class Twice:
        reads, skips = INPUT, KINDS

        def keeps(self, read: Tensor) -> Tensor:
            width = 160 if read.shape[1] > 1 else 320
            return torch.ones(*read.shape[:-1], width, dtype=torch.bool)

    with sparsify(tiny, plan_of(tiny, lambda site: Twice()), kernels="cpu") as attached:
        assert attached.kernels
        with pytest.raises(RuntimeError, match="shape"):
            decode(tiny)


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ("native", "there is no kernel 'hot_cold_mlp/native'; registered are "),
        ("triton", "kernels='triton' cannot be used: hot_cold_mlp/triton runs on cuda, and the"),
        ("picky", "kernels='picky' cannot be used: hot_cold_mlp/picky takes float16, and the"),
        ("absent", "kernels='absent' cannot be used: it rains"),
    ],
)
def test_kernels_that_cannot_be_used(kernels: str, message: str, tiny: Any, calls: Calls) -> None:
    for name, given in (
        ("picky", {"dtypes": ("float16",)}),
        ("absent", {"unavailable": lambda: "it rains"}),
    ):
        sparse_kernel(op="hot_cold_mlp", backend=name, **given)(lambda **_: None)
    dense = decode(tiny)
    with pytest.raises(SparsityError, match=re.escape(message)):
        sparsify(tiny, plan_of(tiny), kernels=kernels)
    assert all(map(torch.equal, decode(tiny), dense))
    sparsify(tiny, plan_of(tiny)).detach()


# --- the rule


class Trials(list[list[str]]):
    """The names of the kernels of every trial."""


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> tuple[Trials, dict[str, float]]:
    """Trials in which masks take a second, and kernels what is given by name, or nine."""
    held, seconds = Trials(), dict[str, float]()

    def measured(model: Any, alike: Any, kernels: Any) -> list[float]:
        held.append([kernel.name for kernel in kernels])
        return [1.0, *(seconds.get(kernel.name, 9.0) for kernel in kernels)]

    monkeypatch.setattr(neuron_kernels, "_seconds", measured)
    return held, seconds


@pytest.mark.parametrize(
    ("watched", "used"), [(0.5, True), (0.99, True), (1.0, False), (2.0, False)]
)
def test_auto_takes_the_kernel_that_wins(
    watched: float, used: bool, tiny: Any, trials: tuple[Trials, dict[str, float]]
) -> None:
    held, seconds = trials
    seconds["watched"] = watched
    for level in (0.5, 0.5, 0.8):  # another number of neurons is another trial
        with sparsify(tiny, replace(plan_of(tiny), level=level), kernels="auto") as attached:
            assert set(attached.kernels.values()) == ({"watched"} if used else set())
    assert len(held) == 2


def test_auto_tries_what_runs_here_and_skips(
    tiny: Any, trials: tuple[Trials, dict[str, float]]
) -> None:
    held, _ = trials
    with sparsify(tiny, plan_of(tiny), kernels="auto") as attached:
        assert not attached.kernels
    assert [set(names) for names in held] == [{"cpu", "watched"}]  # torch does not say so


@pytest.mark.parametrize("stopped", [False, True])
def test_a_trial_takes_tokens_by_turns_and_leaves_nothing(
    stopped: bool, tiny: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = decode(tiny)
    passes: list[int] = []
    monkeypatch.setattr(neuron_kernels, "_SECONDS", 0.0)

    def taken(*_: Any) -> None:
        passes.append(len(calls))
        if stopped and len(passes) == 6:
            raise KeyError("stop")

    handle = tiny.decoder.register_forward_hook(taken)
    try:
        if stopped:
            with pytest.raises(KeyError, match="stop"):
                sparsify(tiny, plan_of(tiny), kernels="auto")
        else:
            sparsify(tiny, plan_of(tiny), kernels="auto").detach()
    finally:
        handle.remove()
    turns = [after - before for before, after in zip([0, *passes], passes, strict=False)]
    assert turns[:6] == [0, 0, LAYERS] * 2  # masked, cpu, watched
    assert len(passes) == (6 if stopped else 3 * (1 + neuron_kernels._TOKENS))
    assert {kept for _, kept in calls[: LAYERS * 2]} == {80}
    assert not any("forward" in vars(module) for module in tiny.model.modules())
    assert all(map(torch.equal, decode(tiny), dense))
