"""Which passes of a model with a plan by neurons run kernels, and what is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from neuron_plans import (
    LAYERS,
    Calls,
    block_of,
    constant,
    plan_of,
    predicted,
)
from steps import TEXT, assert_same, assert_unchanged, decode, given_back, own_forward

from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import RESIDUAL

pytestmark = pytest.mark.usefixtures("one_thread")


def test_prefills_and_batches_stay_masked(tiny: Any, calls: Calls) -> None:
    plan = plan_of(tiny)
    with sparsify(tiny, plan):
        masked = decode(tiny, rows=2)
    with sparsify(tiny, plan, kernels="watched"), torch.inference_mode():
        calls.clear()
        tiny.model(input_ids=TEXT[None])
        tiny.model(input_ids=TEXT[:1, None])  # one token, which the policy keeps dense
        assert_unchanged(decode(tiny, rows=2), masked)
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


def test_threads_keep_their_own_steps_apart(tiny: Any, in_threads: Any) -> None:
    plan = plan_of(tiny, lambda site: predicted(site, RESIDUAL))
    with sparsify(tiny, plan, kernels="cpu"):
        expected = [decode(tiny, prompt=prompt) for prompt in (4, 12)]
        found = in_threads(lambda place: decode(tiny, prompt=(4, 12)[place]), 2)
    for own, all_found in zip(expected, found, strict=True):
        assert all(torch.equal(*pair) for each in all_found for pair in zip(own, each, strict=True))


def test_detaching_gives_everything_back(tiny: Any, calls: Calls) -> None:
    own = block_of(tiny, 0)
    with given_back(tiny) as dense, own_forward(own) as original:
        attached = sparsify(tiny, plan_of(tiny, bias=constant(tiny)), kernels="watched")
        assert vars(own)["forward"] is not original
        assert not torch.allclose(decode(tiny)[1], dense[1], atol=1e-2)
        attached.detach()
        attached.detach()
        assert vars(own)["forward"] is original


def test_an_interrupted_step_leaves_nothing_behind(tiny: Any, calls: Calls) -> None:
    def stop(*_: Any) -> None:
        raise KeyError("stop")

    with sparsify(tiny, plan_of(tiny, lambda site: predicted(site, RESIDUAL)), kernels="watched"):
        expected = decode(tiny)
        handle = block_of(tiny, 1).register_forward_pre_hook(stop)
        with pytest.raises(KeyError, match="stop"):
            decode(tiny, prompt=1)
        handle.remove()
        assert_unchanged(decode(tiny), expected)
