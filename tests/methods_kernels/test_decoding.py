"""Sparse kernels in a model: which passes run them, and that they change nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from steps import STEPS, TEXT, assert_same, assert_unchanged, decode, given_back, own_forward
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.kernels import dispatch
from pytest_sparsity.kernels.dispatch import CostModel
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.sparse_linear import sparse_linear
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.models import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("q", "k", "v", "o", "gate", "up", "down")


class Calls(list[tuple[int, int, int]]):
    """(rows, K, N) of every call of the kernel under test."""


@pytest.fixture
def calls(own_kernels: None) -> Calls:
    """A kernel called ``watched`` is registered while the test runs."""
    seen = Calls()

    @sparse_kernel(op="sparse_linear", backend="watched", max_rows=4)
    def watched(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        assert weight.stride(0) == 1
        seen.append((x.shape[0], x.shape[1], weight.shape[0]))
        return sparse_linear(x, weight, threshold, bias)

    return seen


def plan_of(model: Any, policy: str = "first:1", *, same: bool = True, bias: float = 0.0) -> Plan:
    """Thresholds of about half; ``same`` where sites read the same input."""
    selectors = {
        s.name: Threshold(0.5 if same else 0.5 + 0.01 * KINDS.index(s.kind)) for s in model.sites
    }
    generator = torch.Generator().manual_seed(5)
    biases = {
        s.name: bias * torch.randn(s.module.out_features, generator=generator)
        for s in model.sites
        if bias and s.kind in ("k", "o", "down")
    }
    return Plan("teal", 0.5, selectors, PrefillPolicy(policy), biases)


@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_steps_are_those_of_masked_layers(
    family: str, same: bool, bias: float, small_model: Callable[..., Any], calls: Calls
) -> None:
    model = small_model(family)
    plan = plan_of(model, same=same, bias=bias)
    with sparsify(model, plan):
        masked = decode(model, rows=2)
    assert not calls
    with sparsify(model, plan, kernels="watched") as attached:
        assert attached.kernels == {site.name: "watched" for site in model.sites}
        assert_same(decode(model, rows=2), masked)
    per_step = 3 * (4 if same else 7)  # q, k, v and gate, up are one call if they may be
    assert len(calls) == per_step * STEPS


def test_none_is_what_it_was(tiny: Any) -> None:
    with sparsify(tiny, plan_of(tiny)):
        expected = decode(tiny)
    with sparsify(tiny, plan_of(tiny), kernels="none") as attached:
        assert not attached.kernels
        assert not any("forward" in vars(site.module) for site in tiny.sites)
        assert_unchanged(decode(tiny), expected)


def test_layers_with_one_input_are_one_call(tiny: Any, calls: Calls) -> None:
    with sparsify(tiny, plan_of(tiny), kernels="watched"):
        decode(tiny)
    assert calls[:4] == [(1, 64, 64 + 32 + 32), (1, 64, 64), (1, 64, 320), (1, 160, 64)]


def test_prefills_and_large_batches_stay_masked(tiny: Any, calls: Calls) -> None:
    plan = plan_of(tiny)
    with sparsify(tiny, plan):
        masked = decode(tiny, rows=5)
    with sparsify(tiny, plan, kernels="watched"), torch.inference_mode():
        tiny.model(input_ids=TEXT[None])
        tiny.model(input_ids=TEXT[:1, None])  # one token, which the policy keeps dense
        assert_unchanged(decode(tiny, rows=5), masked)
    assert not calls


@pytest.mark.parametrize(("policy", "sparse_steps"), [("none", 21), ("first:6", 18), ("half", 21)])
def test_steps_that_a_policy_keeps_dense(
    policy: str, sparse_steps: int, tiny: Any, calls: Calls
) -> None:
    plan = plan_of(tiny, policy)
    with sparsify(tiny, plan):
        masked = decode(tiny, prompt=3)
    with sparsify(tiny, plan, kernels="watched"):
        assert_same(decode(tiny, prompt=3), masked)
    assert len(calls) == 3 * 4 * sparse_steps


def test_other_selectors_stay_masked(tiny: Any, calls: Calls) -> None:
    class Largest:
        def __call__(self, x: Tensor) -> Tensor:
            return x * (x.abs() >= x.abs().quantile(0.5, -1, keepdim=True))

    plan = plan_of(tiny)
    plan = Plan("mixed", 0.5, {**plan.selectors, "1.k": Largest(), "2.down": Largest()})
    with sparsify(tiny, plan):
        masked = decode(tiny)
    with sparsify(tiny, plan, kernels="watched") as attached:
        assert set(plan.selectors) - set(attached.kernels) == {"1.k", "2.down"}
        assert_same(decode(tiny), masked)
    assert calls


@pytest.mark.parametrize("same", [True, False])
def test_counts_are_those_of_masked_layers(same: bool, tiny: Any, calls: Calls) -> None:
    plan = plan_of(tiny, same=same)
    counts = []
    for kernels in ("none", "watched"):
        with sparsify(tiny, plan, kernels=kernels) as attached:
            decode(tiny)
            attached.counting = True
            decode(tiny, rows=2)
            counts.append(attached.achieved.counts)
    # Sums in another order move a few activations across a threshold.
    for site, (zeroed, seen) in counts[0].items():
        assert counts[1][site][1] == seen
        assert abs(counts[1][site][0] - zeroed) <= 3
    assert calls


def test_detaching_gives_everything_back(tiny: Any, calls: Calls) -> None:
    own = tiny.sites[0].module
    with given_back(tiny) as dense:
        attached = sparsify(tiny, plan_of(tiny, bias=0.1), kernels="watched")
        assert not torch.allclose(decode(tiny)[1], dense[1], atol=1e-2)
        attached.detach()
        attached.detach()
        assert "forward" not in vars(own)


def test_detaching_leaves_a_replaced_forward(tiny: Any) -> None:
    own = tiny.sites[0].module
    with given_back(tiny) as dense, own_forward(own) as original:
        attached = sparsify(tiny, plan_of(tiny, bias=0.1), kernels="auto")
        assert "0.q" not in attached.kernels
        assert not torch.allclose(decode(tiny)[1], dense[1], atol=1e-2)
        attached.detach()
        assert vars(own)["forward"] is original


def test_a_twin_does_not_touch_the_model(tiny: Any, calls: Calls) -> None:
    dense = decode(tiny)
    with sparsify(tiny.twin(), plan_of(tiny), kernels="watched"):
        assert_unchanged(decode(tiny), dense)
    assert not calls


def test_an_interrupted_step_leaves_nothing_behind(tiny: Any, calls: Calls) -> None:
    def stop(*_: Any) -> None:
        raise KeyError("stop")

    with sparsify(tiny, plan_of(tiny), kernels="watched"):
        expected = decode(tiny)
        handle = tiny.sites[8].module.register_forward_hook(stop)
        with pytest.raises(KeyError, match="stop"):
            decode(tiny, prompt=1)
        handle.remove()
        before = len(calls)
        tiny.sites[0].module(torch.zeros(1, 1, 64))  # called by itself: no step
        assert len(calls) == before
        assert_unchanged(decode(tiny), expected)


def test_gradients_do_not_meet_kernels(tiny: Any, calls: Calls) -> None:
    embeddings = tiny.decoder.get_input_embeddings()(TEXT[None, :1]).requires_grad_()
    plan = plan_of(tiny, "none")
    with sparsify(tiny, plan, kernels="watched"):
        tiny.model(inputs_embeds=embeddings).logits.sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    assert not calls


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(dtype: str, calls: Calls) -> None:
    model = load_model("tiny-random", dtype=dtype)
    with sparsify(model, plan_of(model)):
        masked = decode(model)
    with sparsify(model, plan_of(model), kernels="watched"):
        found = decode(model)
    assert calls
    assert torch.equal(found[0], masked[0])
    assert (found[1].float() - masked[1].float()).abs().median() < 0.05


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ("fast", r"there is no kernel 'sparse_linear/fast'; registered are "),
        ("triton", r"kernels='triton' cannot be used: sparse_linear/triton runs on cuda, and the"),
        ("picky", r"kernels='picky' cannot be used: sparse_linear/picky takes float16, and the"),
        ("absent", r"kernels='absent' cannot be used: it rains"),
    ],
)
def test_kernels_that_cannot_be_used(kernels: str, message: str, tiny: Any, calls: Calls) -> None:
    for name, given in (
        ("picky", {"dtypes": ("float16",)}),
        ("absent", {"unavailable": lambda: "it rains"}),
    ):
        sparse_kernel(op="sparse_linear", backend=name, **given)(lambda **_: None)  # type: ignore[arg-type]
    dense = decode(tiny)
    with pytest.raises(SparsityError, match=re.escape(message).replace("\\ ", " ")):
        sparsify(tiny, plan_of(tiny), kernels=kernels)
    assert_unchanged(decode(tiny), dense)
    sparsify(tiny, plan_of(tiny)).detach()


# --- the rule


def with_costs(
    monkeypatch: pytest.MonkeyPatch, dense: CostModel, watched: CostModel, dtype: str = "float32"
) -> None:
    table = {dispatch.DENSE: {dtype: dense}, "watched": {dtype: watched}}
    monkeypatch.setattr(dispatch, "measured", lambda device: table)


def test_auto_takes_the_kernel_that_wins(
    tiny: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_costs(monkeypatch, CostModel(1e-5, 1e9, 1e9), CostModel(1e-5, 1e9, 1e9))
    with sparsify(tiny, plan_of(tiny), kernels="auto") as attached:
        assert set(attached.kernels) == {site.name for site in tiny.sites}
        decode(tiny)
    assert len(calls) == 3 * 4 * STEPS


def test_auto_is_dense_for_more_rows(
    tiny: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_costs(monkeypatch, CostModel(0, 1e9, 1e12), CostModel(0, 1e9, 1e9))
    plan = plan_of(tiny)
    with sparsify(tiny, plan):
        masked = decode(tiny, rows=2)
    with sparsify(tiny, plan, kernels="auto"):
        decode(tiny, rows=1)
        one_row = len(calls)
        assert one_row
        assert_unchanged(decode(tiny, rows=2), masked)
    assert len(calls) == one_row


def test_auto_is_dense_for_tiny_layers_and_low_levels(
    tiny: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_costs(monkeypatch, CostModel(1e-5, 1e9, 1e9), CostModel(4e-5, 0.8e9, 1e9))
    low = plan_of(tiny)
    plan = Plan("teal", 0.1, low.selectors)
    with sparsify(tiny, plan, kernels="auto") as attached:
        assert not attached.kernels
        decode(tiny)
    assert not calls


def test_auto_with_the_shipped_constants_leaves_a_tiny_model_dense(tiny: Any) -> None:
    plan = Plan("teal", 0.1, plan_of(tiny).selectors)
    with sparsify(tiny, plan, kernels="auto") as attached:
        assert not {site for site in attached.kernels if site.endswith(("o", "down"))}
