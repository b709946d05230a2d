"""Small weights and inputs that look like a layer's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def layer() -> Callable[..., tuple[Tensor, Tensor]]:
    """(W [n, k], X [rows, k]) in float32, with correlated inputs of different sizes."""

    def make(n: int, k: int, rows: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        mix = torch.randn(k, k, generator=generator)
        sizes = torch.rand(k, generator=generator).add(0.05)
        x = torch.randn(rows, k, generator=generator) @ mix * sizes
        return torch.randn(n, k, generator=generator), x

    return make


@pytest.fixture
def texts() -> list[Tensor]:
    """Calibration documents for tiny-random."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (48,), generator=generator) for _ in range(3)]
