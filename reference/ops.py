"""The table of ops: what every kernel of that name is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from pytest_sparsity.reference import (
    compact,
    hot_cold_mlp,
    semi_structured_linear,
    sparse_linear,
    sparse_linear_indexed,
    sparse_qkv,
    sparse_quantized_linear,
    sparse_swiglu,
)
from pytest_sparsity.reference.precision import Precision


@dataclass(frozen=True)
class Op:
    """A mathematical definition.

    A kernel of the op is called with the fields of ``inputs`` as keyword arguments and returns a
    new tensor of the shape of ``define(inputs)`` and of x's dtype.

    Attributes:
        name: as kernels are registered under it.
        inputs: the dataclass of its checked operands; constructing it raises ValueError or
            TypeError on operands that the op is not defined for.
        define: the float64 result.
        bound: largest error of a right kernel, float64 of the result's shape, given its dtypes;
            None for an op whose result is exact (integers).
        needed: per weight tensor (named as in ``operands.tensors``) a bool tensor of its shape:
            what a sparse kernel reads.  All else may hold NaN and must not matter.
    """

    name: str
    inputs: type[Any]
    define: Callable[[Any], Tensor]
    bound: Callable[[Any, Precision], Tensor] | None
    needed: Callable[[Any], Mapping[str, Tensor]]


def _op(module: ModuleType, inputs: str) -> Op:
    name = module.__name__.rpartition(".")[2]
    return Op(
        name=name,
        inputs=getattr(module, inputs),
        define=getattr(module, name),
        bound=getattr(module, "error_bound", None),
        needed=module.needed,
    )


OPS: Mapping[str, Op] = {
    op.name: op
    for op in (
        _op(sparse_linear, "SparseLinearInputs"),
        _op(sparse_linear_indexed, "SparseLinearIndexedInputs"),
        _op(sparse_qkv, "SparseQkvInputs"),
        _op(sparse_swiglu, "SparseSwigluInputs"),
        _op(hot_cold_mlp, "HotColdMlpInputs"),
        _op(sparse_quantized_linear, "SparseQuantizedLinearInputs"),
        _op(semi_structured_linear, "SemiStructuredLinearInputs"),
        _op(compact, "CompactInputs"),
    )
}
