"""Which MLPs kernels for plans by neurons compute; all others stay masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from neuron_plans import (
    KINDS,
    Calls,
    assert_masked,
    block_of,
    fixed,
    plan_of,
)
from steps import assert_same, decode
from torch import Tensor, nn

from pytest_sparsity.methods.attach import sparsify

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert_masked(model, plan_of(model), calls)


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
