"""Decisions inside definitions: the edge may fall to either side, and nothing else may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign_ops import kernel, of
from torch import Tensor

from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import (
    Draw,
    Output,
    above,
    largest,
    sparse_kernel,
    sparse_op,
)

pytestmark = pytest.mark.usefixtures("forgotten")


def test_a_value_on_the_edge_may_fall_to_either_side() -> None:
    def relu_gated(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T
        return torch.where(above(h, threshold), h + 1.0, 0.0)

    x = torch.tensor([[1.0, 2.0**-24]])
    matrix = torch.tensor([[1.0, 1.0], [0.5, 0.0]])

    def draw(draw: Draw) -> dict[str, Any]:
        return {"x": x.clone(), "matrix": matrix.clone(), "threshold": 1.0}

    sparse_op(draw=draw, space={"rows": (1,), "k": (2,), "n": (2,), "dtype": ("float32",)})(
        relu_gated
    )

    def rounded(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T  # 1 + 2^-24 is 1 in float32, which is not above 1
        return torch.where(h > threshold, h + 1.0, 0.0)

    assert run(kernel("relu_gated", rounded, dtypes=("float32",)), "fuzz", 1).status == "passed"

    def far_off(x: Tensor, matrix: Tensor, threshold: float) -> Tensor:
        h = x @ matrix.T
        return torch.where(h > 0.4, h + 1.0, 0.0)

    sparse_kernel(op="relu_gated", backend="far", dtypes=("float32",))(far_off)
    assert run(registry.kernel("relu_gated/far"), "fuzz", 1).status == "failed"


def test_scores_that_tie_may_be_chosen_either_way() -> None:
    """A router: the same scores computed in another order choose others where they tie."""
    one = torch.tensor([[1.0, 2.0**-24, 2.0**-24, -1.0]])
    experts = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0 - 2**-24], [0, 0, 0, 0.5]])

    def router(x: Tensor, experts: Tensor) -> Tensor:
        chosen = largest(x @ experts.T, 1)
        return chosen.nonzero()[:, 1].view(len(x), 1)

    sparse_op(
        draw=lambda d: {"x": one.clone(), "experts": experts.clone()},
        space={"rows": (1,), "dtype": ("float32",)},
        outputs=(Output("expert", "set", "int64"),),
    )(router)
    for chosen in (0, 1):
        assert of("router", "fuzz", lambda x, experts, c=chosen: torch.full((1, 1), c)).startswith(
            "passed"
        )
    assert of("router", "fuzz", lambda x, experts: torch.full((1, 1), 2)).startswith("failed")
