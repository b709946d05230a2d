"""Which kernel is taken for a plan by neurons: the one that wins a trial, if any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from neuron_plans import LAYERS, Calls, block_of, fixed, plan_of, predicted
from steps import assert_unchanged, decode

from pytest_sparsity.methods import neuron_trial
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.decoding import Exchanged
from pytest_sparsity.methods.neuron_kernels import kernel_mlps

pytestmark = pytest.mark.usefixtures("one_thread")


class Trials(list[list[str]]):
    """The names of the kernels of every trial."""


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> tuple[Trials, dict[str, float]]:
    """Trials in which masks take a second, and kernels what is given by name, or nine."""
    held, seconds = Trials(), dict[str, float]()

    def measured(model: Any, alike: Any, kernels: Any) -> list[float]:
        held.append([kernel.name for kernel in kernels])
        return [1.0, *(seconds.get(kernel.name, 9.0) for kernel in kernels)]

    monkeypatch.setattr(neuron_trial, "_seconds", measured)
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


@pytest.mark.parametrize("selector", [predicted, fixed])
def test_what_a_trial_calls_masked_is_what_masks_compute(selector: Any, tiny: Any) -> None:
    plan, block = plan_of(tiny, selector), block_of(tiny, 1)
    x = torch.randn(1, 1, tiny.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    x = x.to(tiny.dtype)
    dense = block(x)
    with sparsify(tiny, plan):
        masked = block(x)
    assert not torch.equal(masked, dense)
    mlps = [each.mlp for each in kernel_mlps(tiny, plan, "cpu", {})]
    exchanged = Exchanged()
    for module, forward in neuron_trial._masked(mlps[1]):
        exchanged.put(module, forward)
    try:
        assert torch.equal(block(x), masked)
    finally:
        exchanged.give_back()
    assert torch.equal(block(x), dense)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_trial_takes_tokens_by_turns_and_leaves_nothing(
    stopped: bool, tiny: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = decode(tiny)
    passes: list[int] = []
    monkeypatch.setattr(neuron_trial, "_SECONDS", 0.0)

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
    assert len(passes) == (6 if stopped else 3 * (1 + neuron_trial._TOKENS))
    assert {kept for _, kept in calls[: LAYERS * 2]} == {80}
    assert not any("forward" in vars(module) for module in tiny.model.modules())
    assert_unchanged(decode(tiny), dense)
