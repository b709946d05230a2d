from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import functional

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify, weighted_sparsity
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.cats import OpenGate
from pytest_sparsity.methods.plan import INPUT, Plan
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.reads import Kept, observe_kept
from pytest_sparsity.methods.registry import by_name
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.models.forward import hidden_states

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = torch.randint(0, 256, (40,), generator=torch.Generator().manual_seed(3))


def plan_of(model: Any, level: float = 0.5, policy: str = "first:1") -> Plan:
    return by_name()["cats"].plan(Calibrator(model, [TEXT], PrefillPolicy(policy)), level)


def test_a_gate_is_open_strictly_above_its_threshold() -> None:
    gate = torch.tensor([[0.5, -0.5, 0.51, -0.6, 0.0, -0.0, math.nan]])
    assert OpenGate(0.5).keeps(gate).tolist() == [[False, False, True, True, False, False, True]]
    assert OpenGate(0.0).keeps(gate).tolist() == [[True, True, True, True, False, False, True]]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("policy", ["first:1", "half", "none"])
def test_the_mlp_computes_the_published_formula(family: str, policy: str, small_model: Any) -> None:
    """h = 1{|act(W_g x)| > t} act(W_g x) (W_u x), then down; dense positions are dense."""
    model = small_model(family)
    plan = plan_of(model, 0.5, policy)
    kept_dense = {"first:1": 1, "half": 20, "none": 0}[policy]
    mlp = model.sites[-1].module
    names = {id(m): n for n, m in model.model.named_modules()}
    block = model.model.get_submodule(names[id(mlp)].rpartition(".")[0])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = block.register_forward_hook(lambda _, args, y: seen.append((args[0][0], y[0])))
    with sparsify(model, plan):
        hidden_states(model, TEXT)
    handle.remove()
    x, found = seen[0]
    act = (
        functional.silu if family == "llama" else (lambda g: functional.gelu(g, approximate="tanh"))
    )
    gate = act(x @ block.gate_proj.weight.T)
    selector = plan.neurons["2.down"]
    assert isinstance(selector, OpenGate)
    keep = gate.abs() > selector.value
    keep[:kept_dense] = True
    h = torch.where(keep, gate * (x @ block.up_proj.weight.T), 0.0)
    torch.testing.assert_close(found, h @ block.down_proj.weight.T)
    assert 0.3 < 1 - float(keep[kept_dense:].float().mean()) < 0.7


def test_thresholds_are_quantiles_of_the_activated_gate(tiny: Any) -> None:
    plan = plan_of(tiny, 0.4)
    assert plan.selectors == {}
    assert plan.sparse_sites == ("0.down", "1.down", "2.down")
    assert plan.skipped_sites == tuple(f"{n}.{k}" for n in range(3) for k in ("up", "down"))

    def fraction(site: str, found: Kept) -> float:
        assert found.neurons is not None
        selector = plan.neurons[site]
        assert isinstance(selector, OpenGate)
        ordered = found.read.abs().flatten().sort().values
        assert selector.value == float(ordered[math.ceil(0.4 * len(ordered)) - 1])
        assert torch.equal(found.kept != 0, found.neurons & (found.x != 0))
        return found.dropped / found.x.numel()

    (found,) = observe_kept(tiny, plan, [TEXT], fraction)
    assert list(found.values()) == pytest.approx([0.4] * 3, abs=1e-3)


def test_what_is_skipped_are_up_rows_and_down_columns(tiny: Any) -> None:
    plan = plan_of(tiny, 0.5)
    with sparsify(tiny, plan) as attached:
        attached.counting = True
        hidden_states(tiny, TEXT)
    counts = attached.achieved.counts
    assert set(counts) == {f"{layer}.{kind}" for layer in range(3) for kind in ("up", "down")}
    for layer in range(3):
        assert counts[f"{layer}.up"] == counts[f"{layer}.down"]
        assert counts[f"{layer}.down"][1] == 39 * 160
    # By true shapes: gates and attention are dense, so half of the neurons is 36 % of the model.
    block = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160
    skipped = sum(dropped / seen for dropped, seen in counts.values()) * 64 * 160
    assert attached.achieved.weighted == pytest.approx(skipped / (3 * block))
    assert attached.achieved.weighted == pytest.approx(0.5 * 2 * 64 * 160 / block, abs=0.02)
    sizes = attached.achieved.weights
    assert weighted_sparsity({"0.up": (1, 2)}, sizes) == 0.5 * sizes["0.up"] / sum(sizes.values())


def test_only_the_neurons_count(tiny: Any) -> None:
    """At level 0 nothing changes; at level 1 the MLPs give nothing."""
    dense = hidden_states(tiny, TEXT)
    with sparsify(tiny, plan_of(tiny, 0.0)):
        assert torch.equal(hidden_states(tiny, TEXT), dense)
    seen: list[torch.Tensor] = []
    with sparsify(tiny, plan_of(tiny, 1.0)):
        # Later layers see other activations than those of the calibration.
        handle = tiny.sites[6].module.register_forward_hook(lambda _, __, y: seen.append(y[0]))
        hidden_states(tiny, TEXT)
        handle.remove()
    assert not seen[0][1:].any()
    assert seen[0][0].any()


def test_spontaneous_vectors_make_up_for_dropped_neurons(tiny: Any) -> None:
    plan = plan_of(tiny, 0.5)
    vectors = mean_residual(tiny, plan, [TEXT])
    assert list(vectors.a) == ["0.down", "1.down", "2.down"]
    lost: dict[str, torch.Tensor] = {}

    def residual(site: str, found: Kept) -> None:
        lost[site] = (found.x - found.kept).mean(0)

    list(observe_kept(tiny, plan, [TEXT], residual))
    for site, a in vectors.a.items():
        torch.testing.assert_close(a, lost[site])
        assert a.any()


@pytest.mark.parametrize("method", ["cats", "wina", "nm_2_4", "teal_greedy"])
def test_vectors_can_be_trained_for_every_kind_of_selector(tiny: Any, method: str) -> None:
    plan = by_name()[method].plan(Calibrator(tiny, [TEXT], FIRST_TOKEN_DENSE), 0.5)
    stream = TEXT.repeat(50)  # what is held out is what is trained on: there is much to gain
    recipe = Recipe(steps=16, sequences=4, length=32, warmup=1, held_out=8, check_every=8)
    vectors = train(tiny, plan, [stream], recipe)
    assert set(vectors.a) == set(plan.sparse_sites)
    losses = vectors.provenance["held_out_loss"]
    assert min(loss for _, loss in losses) < losses[0][1]


def test_detaching_takes_every_hook_off(tiny: Any) -> None:
    def hooks() -> int:
        modules = tiny.model.modules()
        return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in modules)

    before, dense = hooks(), hidden_states(tiny, TEXT)
    attached = sparsify(tiny, plan_of(tiny))
    assert hooks() > before
    attached.detach()
    assert hooks() == before
    assert torch.equal(hidden_states(tiny, TEXT), dense)


def test_decoding_and_threads_see_their_own_gates(tiny: Any, in_threads: Any) -> None:
    texts = [TEXT[:n] for n in (40, 7, 23, 12)]
    with sparsify(tiny, plan_of(tiny)):
        alone = [hidden_states(tiny, text) for text in texts]
        together = in_threads(lambda n: hidden_states(tiny, texts[n]), len(texts))
    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(each, expected) for each in found)


@pytest.mark.parametrize("family", ["arcee", "opt", "gpt2"])
def test_models_without_gates_are_one_clear_sentence(family: str, small_model: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        plan_of(small_model(family))
    assert str(caught.value) == (
        f"method cats decides by the gates of the MLPs, and small-{family} has none; leave cats "
        "out of --sparsity-methods for this model"
    )


@pytest.mark.parametrize("act", [torch.tanh, torch.nn.functional.silu])
def test_a_function_that_no_mlp_names_is_tried_for(small_model: Any, act: Any) -> None:
    named, model = small_model("llama"), small_model("llama")
    mlp = model.model.model.layers[1].mlp
    del mlp.act_fn
    mlp.forward = lambda x: mlp.down_proj(act(mlp.gate_proj(x)) * mlp.up_proj(x))
    if act is torch.nn.functional.silu:
        assert plan_of(model).neurons == plan_of(named).neurons
        return
    with pytest.raises(SparsityError) as caught:
        plan_of(model)
    assert str(caught.value) == (
        "the MLP of layer 1 of small-llama multiplies by something else than an activation "
        "function of its gate alone, so that its gate does not tell which neurons are nearly 0; "
        "leave cats out of --sparsity-methods for this model"
    )


def test_a_gate_that_is_shut_by_nature_is_a_plateau(small_model: Any) -> None:
    """Half of relu(gate) is zero: lower levels have threshold 0 and equal outputs."""
    model = small_model("llama", hidden_act="relu")
    plans = {level: plan_of(model, level) for level in (0.0, 0.1, 0.3, 0.8)}
    states = {}
    for level, plan in plans.items():
        with sparsify(model, plan) as attached:
            attached.counting = True
            states[level] = hidden_states(model, TEXT), attached.achieved.weighted
    dense = hidden_states(model, TEXT)
    assert plans[0.0].plateau == ()
    assert plans[0.3].plateau == ("0.down", "1.down", "2.down")
    assert plans[0.8].plateau == ()
    for level in (0.0, 0.1, 0.3):
        torch.testing.assert_close(states[level][0], dense)
        assert states[level][1] == states[0.0][1] > 0.1
    assert not torch.allclose(states[0.8][0], dense, atol=1e-3)


# --- other selectors of neurons


@dataclass(frozen=True)
class ByInput:
    """Keeps all neurons where the first channel of the MLP's input is positive."""

    reads: str = INPUT
    skips: tuple[str, ...] = ("gate", "up", "down")

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        return (read[..., :1] > 0).expand(*read.shape[:-1], 160)


def test_neurons_may_be_decided_by_the_input_of_the_mlp(tiny: Any) -> None:
    plan = Plan("x", 0.5, {}, FIRST_TOKEN_DENSE, neurons={"1.down": ByInput()})
    mlp = tiny.model.model.layers[1].mlp
    seen: list[torch.Tensor] = []
    with sparsify(tiny, plan) as attached:
        attached.counting = True
        handle = mlp.register_forward_hook(lambda _, args, y: seen.extend((args[0][0], y[0])))
        hidden_states(tiny, TEXT)
        handle.remove()
    x, y = seen
    kept = x[:, 0] > 0
    kept[0] = True
    assert torch.equal(y.any(-1), kept)
    dropped = 160 * int((~kept).sum())
    assert attached.achieved.counts == {
        f"1.{kind}": (dropped, 39 * 160) for kind in ("gate", "up", "down")
    }

    def same(site: str, found: Kept) -> bool:
        assert found.neurons is not None
        return torch.equal(found.neurons[:, 0], found.read[:, 0] > 0)

    assert list(observe_kept(tiny, plan, [TEXT], same)) == [{"1.down": True}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neurons": {"7.down": OpenGate(1.0)}}, "the plan names sites that tiny-random lacks"),
        (
            {"neurons": {"0.down": OpenGate(1.0)}, "selectors": {"0.down": abs}},
            r"the plan has two selectors for the same sites: \['0.down'\]",
        ),
        (
            {"neurons": {"0.down": OpenGate(1.0, reads="head")}},
            "0.down is to be decided by 'head', which it does not have",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    tiny: Any, changes: dict[str, Any], message: str
) -> None:
    dense = hidden_states(tiny, TEXT)
    with pytest.raises(ValueError, match=message):
        sparsify(tiny, Plan("x", 0.5, **{"selectors": {}, **changes}))
    assert torch.equal(hidden_states(tiny, TEXT), dense)
    sparsify(tiny, plan_of(tiny)).detach()
