"""Which selectors, plans and kernels an MLP can be computed with by neurons."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from neuron_plans import (
    KINDS,
    Calls,
    assert_masked,
    constant,
    plan_of,
)
from steps import assert_same, assert_unchanged, decode
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.hot_cold_mlp import hot_cold_mlp
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.neurons.selectors import LargestNeurons
from pytest_sparsity.methods.plan import GATE, HIDDEN, INPUT, Threshold

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert_masked(tiny, plan_of(tiny, select), calls)


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
    assert_unchanged(decode(tiny), dense)
    sparsify(tiny, plan_of(tiny)).detach()
