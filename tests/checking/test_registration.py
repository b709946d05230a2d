"""What registers as a kernel, and as which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_ops import kernel, linear, register
from torch import Tensor

from pytest_sparsity import SparsityError
from pytest_sparsity.checking.runner import run
from pytest_sparsity.testing import (
    sparse_kernel,
)

pytestmark = pytest.mark.usefixtures("forgotten")


class Callable_:
    def __call__(self, tokens: Tensor, matrix: Tensor) -> Tensor:
        return tokens @ matrix.T


@pytest.mark.parametrize(
    "call",
    [
        Callable_(),
        torch.nn.functional.linear.__call__,
        __import__("functools").partial(lambda tokens, matrix, scale: tokens @ matrix.T, scale=1),
    ],
)
def test_any_callable_registers_where_it_was_registered(call: Any) -> None:
    register(linear)
    found = kernel("linear", call)
    assert Path(found.file).name == "foreign_ops.py"
    assert found.module == kernel.__module__
    assert found.line > 0


def test_what_cannot_be_called_does_not_register() -> None:
    register(linear)
    with pytest.raises(SparsityError, match="3 cannot be called"):
        sparse_kernel(op="linear", backend="mine")(3)  # type: ignore[type-var]


def test_a_custom_op_of_torch_registers() -> None:
    register(linear)

    @torch.library.custom_op("pytest_sparsity_tests::linear", mutates_args=())
    def custom(tokens: Tensor, matrix: Tensor) -> Tensor:
        return tokens @ matrix.T

    assert run(kernel("linear", custom), "fuzz", 5).status == "passed"


def test_one_name_is_one_kernel_and_one_op() -> None:
    register(linear)
    again = sparse_kernel(op="linear", backend="loop")
    again(lambda tokens, matrix: tokens @ matrix.T)
    with pytest.raises(SparsityError, match="linear/loop is registered twice"):
        again(lambda tokens, matrix: matrix @ tokens.T)
    with pytest.raises(SparsityError, match="there is an op of this name, in the same module"):
        register(linear)
