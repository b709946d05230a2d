"""Definitions of ops: what every kernel of that name is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
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
from pytest_sparsity.reference.stochastic import Outcomes

#: What an op gives: a tensor, or several in a fixed order.
Result = Tensor | tuple[Tensor, ...]
#: ``numbers`` may be off by the bound; ``exact`` ones may not; of a ``set``, along its last
#: dimension, the order is free, and negative entries are padding.
Kind = Literal["numbers", "exact", "set"]


@dataclass(frozen=True)
class Output:
    """One tensor of an op's result.

    Attributes:
        name: in messages.
        kind: how it is compared.
        dtype: name of a torch dtype; ``operand`` for that of the leading operand.
    """

    name: str = "output"
    kind: Kind = "numbers"
    dtype: str = "operand"


@dataclass(frozen=True)
class Op:
    """A mathematical definition.

    A kernel of the op is called with the fields of ``inputs`` as keyword arguments and returns
    new tensors of the shapes of ``define(inputs)`` and of the dtypes in ``outputs``: one tensor,
    or a tuple.

    Attributes:
        name: as kernels are registered under it.
        inputs: the dataclass of its checked operands; constructing it raises ValueError or
            TypeError on operands that the op is not defined for.
        define: the float64 result.
        bound: largest error of a right kernel, float64 of the result's shape, given its dtypes
            (of each tensor, if there are several); None for an op whose result is exact.
        needed: per weight tensor (named as in ``operands.tensors``) a bool tensor of its shape:
            what a sparse kernel reads.  All else may hold NaN and must not matter.  None if it may
            read all.
        outputs: the tensors of the result.
        leading: name of the operand whose dtype and device the result has.
        module: that defines it, of ops of others.
        file: of that module.
        about: what it computes, in a sentence, of ops of others.
        execution: the names of that module: it may be executed again, and an op replaced by itself.
        outcomes: what right kernels may give where decisions are on the edge; None where nothing is
            decided by computed values.
        computed: ``bound`` is computed from the definition, as ``outcomes`` are.
        takes: names of the dtypes that its cases have.
    """

    name: str
    inputs: type[Any]
    define: Callable[[Any], Result]
    bound: Callable[[Any, Precision], Result] | None
    needed: Callable[[Any], Mapping[str, Tensor]] | None
    outputs: tuple[Output, ...] = (Output(),)
    leading: str = "x"
    module: str = ""
    file: str = ""
    about: str = ""
    execution: object = None
    outcomes: Callable[[Any, Precision], Outcomes] | None = None
    computed: bool = False
    takes: tuple[str, ...] = ("float32", "bfloat16", "float16")

    def lead(self, inputs: Any) -> Tensor:
        """The operand whose dtype and device the result has."""
        found: Tensor = getattr(inputs, self.leading)
        return found

    def must_read(self, inputs: Any) -> Mapping[str, Tensor]:
        """:attr:`needed`; nothing where it is not known."""
        return {} if self.needed is None else self.needed(inputs)

    def dtypes(self, inputs: Any) -> tuple[torch.dtype, ...]:
        """Of every tensor of the result."""
        own = self.lead(inputs).dtype
        return tuple(own if o.dtype == "operand" else getattr(torch, o.dtype) for o in self.outputs)


def as_tuple(result: Result) -> tuple[Tensor, ...]:
    """The tensors of a result."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _op(module: ModuleType, inputs: str, *outputs: Output) -> Op:
    name = module.__name__.rpartition(".")[2]
    return Op(
        name=name,
        inputs=getattr(module, inputs),
        define=getattr(module, name),
        bound=getattr(module, "error_bound", None),
        needed=getattr(module, "needed", None),
        outputs=outputs or (Output(),),
    )


_OPS: dict[str, Op] = {
    op.name: op
    for op in (
        _op(sparse_linear, "SparseLinearInputs"),
        _op(sparse_linear_indexed, "SparseLinearIndexedInputs"),
        _op(sparse_qkv, "SparseQkvInputs"),
        _op(sparse_swiglu, "SparseSwigluInputs"),
        _op(hot_cold_mlp, "HotColdMlpInputs"),
        _op(sparse_quantized_linear, "SparseQuantizedLinearInputs"),
        _op(semi_structured_linear, "SemiStructuredLinearInputs"),
        _op(compact, "CompactInputs", Output("channels", "exact", "int32")),
    )
}
#: Names of our own ops.
BUNDLED = tuple(_OPS)
#: Every op that is known so far: ours, and those of others that were registered.
OPS: Mapping[str, Op] = _OPS


def op_of(inputs: type[Any]) -> Op:
    """The op that takes these operands."""
    return next(op for op in OPS.values() if op.inputs is inputs)


def add(op: Op) -> None:
    """Make an op known, in place of one of that name in the same file, which is imported again.

    Raises:
        ValueError: there is another one of this name.
    """
    known = _OPS.get(op.name)
    if known is not None and known.file != op.file:
        raise ValueError(f"defined in {known.file or 'pytest_sparsity'}")
    if known is not None and known.execution is op.execution:
        raise ValueError("in the same module")
    _OPS[op.name] = op
