"""An op of others and kernels of it, for the tests of what others register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.runner import run
from pytest_sparsity.kernels import registry
from pytest_sparsity.testing import (
    Axis,
    Draw,
    Kernel,
    Relations,
    sparse_kernel,
    sparse_op,
)

SPACE = {"rows": (1, 2, 5), "k": (8, 1, 33), "n": (4, 1, 17)}


def draw_linear(draw: Draw) -> dict[str, Tensor]:
    case = draw.case
    x = torch.randn(case.rows, case.k, generator=draw.generator).to(draw.dtype)
    return {"tokens": x, "matrix": draw.weight(case.n, case.k)}


def linear(tokens: Tensor, matrix: Tensor) -> Tensor:
    return tokens @ matrix.T


def register(define: Callable[..., Any], **given: Any) -> None:
    sparse_op(**({"draw": draw_linear, "space": SPACE} | given))(define)


def kernel(op: str, call: Callable[..., Any], **given: Any) -> Kernel:
    sparse_kernel(op=op, backend="mine", **given)(call)
    return registry.kernel(f"{op}/mine")


def outcomes(examined: Kernel, examples: int = 20) -> dict[str, str]:
    return {name: run(examined, name, examples).status for name in CHECKS}


def of(op: str, check: str, call: Callable[..., Any], examples: int = 20, **given: Any) -> str:
    """What comes of a check of a kernel, which is registered for it."""
    name = f"k{len(registry._KERNELS)}"
    sparse_kernel(op=op, backend=name, **given)(call)
    outcome = run(registry.kernel(f"{op}/{name}"), check, examples)
    return f"{outcome.status} {outcome.message}"


def randn(draw: Draw, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw.generator).to(draw.dtype)


RELATIONS = Relations(
    rows=True,
    integers={},
    ends={},
    channels=lambda inputs: {"tokens": Axis(1), "matrix": Axis(1)},
)
