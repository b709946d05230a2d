"""The activation functions, and how far a computed one may be off."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from pytest_sparsity.reference.activation import ACTIVATIONS, activate, activation_error

BY_HAND: dict[str, Callable[[float], float]] = {
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
    "relu": lambda x: max(x, 0.0),
    "relu2": lambda x: max(x, 0.0) ** 2,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_definitions_by_hand(name: str) -> None:
    values = [-30.0, -3.0, -0.75, -0.0, 0.0, 1e-9, 0.5, 2.0, 40.0]
    expected = torch.tensor([BY_HAND[name](value) for value in values], dtype=torch.float64)
    actual = activate(name, torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-300)


def test_definitions_are_those_of_torch() -> None:
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for name, expected in (
        ("silu", functional.silu(x)),
        ("gelu_tanh", functional.gelu(x, approximate="tanh")),
        ("relu", functional.relu(x)),
    ):
        torch.testing.assert_close(activate(name, x), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays(name: str) -> None:
    assert activate(name, torch.tensor([math.nan], dtype=torch.float64)).isnan().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-6, 0.01, 0.3, 3.0])
def test_error_holds_for_every_argument_within_its_error(name: str, size: float) -> None:
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    error = torch.full_like(x, size)
    bound = activation_error(name, x, error, torch.float64)
    worst = torch.zeros_like(x)
    for share in torch.linspace(-1, 1, 41):
        worst = torch.maximum(worst, (activate(name, x + share * error) - activate(name, x)).abs())
    assert (worst <= bound).all()
    # It is not far from the truth: by no more than the curvature's part.
    assert (bound <= worst + 0.1 * size**2 + 1e-12).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_error_covers_evaluation_in_its_dtype(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-9, 9, 3001).to(dtype)
    computed = {
        "silu": lambda: x / (1 + torch.exp(-x)),
        "gelu_tanh": lambda: 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x * x * x))),
        "relu": lambda: torch.relu(x),
        "relu2": lambda: torch.relu(x) * torch.relu(x),
    }[name]()
    error = (computed.double() - activate(name, x.double())).abs()
    bound = activation_error(name, x.double(), torch.zeros(len(x)).double(), dtype)
    assert (error <= bound).all()
    coarser = computed.bfloat16().double() - activate(name, x.double())
    assert name == "relu" or (coarser.abs() > bound).any() or dtype == torch.float16


def test_relu_is_exact() -> None:
    x = torch.tensor([-2.0, 3.0], dtype=torch.float64)
    error = activation_error("relu", x, torch.tensor([1.0, 0.0]).double(), torch.float32)
    assert error[0] == 0
    assert error[1] == pytest.approx(16 * 2**-24 * 3)
