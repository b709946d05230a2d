"""One kernel on one case: its operands, its call, and its result against the definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import guards
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.finding import Finding, compare
from pytest_sparsity.checking.operands import build
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands


@dataclass(frozen=True)
class Trial:
    """What a check is given.

    Attributes:
        kernel: to be checked.
        case: what its operands are.
        device: where they are.
        disposable: a crash of this process does no harm: memory may be made inaccessible.
        figures: what the check measured, in words; for the check to append to.
    """

    kernel: Kernel
    case: Case
    device: str = "cpu"
    disposable: bool = False
    figures: list[str] = field(default_factory=list)

    def inputs(self) -> Any:
        """The operands; a new copy every time.

        Raises:
            SparsityError: the op cannot have such operands.
        """
        try:
            return build(self.kernel.op, self.case, self.device)
        except ValueError as error:
            raise SparsityError(f"case {self.case} is none of {self.kernel.op}: {error}") from error

    def call(self, inputs: Any) -> Tensor:
        """The kernel's result, of the shape, dtype and device it must have.

        Raises:
            Finding: it is another, or the kernel raised an exception.
        """
        try:
            output = self.kernel.call(**operands.arguments(inputs))
            if inputs.x.is_cuda:
                torch.cuda.synchronize()  # where errors of the device show
        except (Exception, SystemExit) as error:
            raise Finding(f"raised {type(error).__name__}: {error}") from error
        if not isinstance(output, Tensor):
            raise Finding(f"returned {type(output).__name__}, not a tensor")
        dtype = torch.int32 if self.kernel.definition.bound is None else inputs.x.dtype
        for name, got, wanted in (
            ("dtype", output.dtype, dtype),
            ("device", output.device, inputs.x.device),
        ):
            if got != wanted:
                raise Finding(f"returned a tensor of {name} {got}, not {wanted}")
        return output

    def guarded(self, inputs: Any) -> Tensor:
        """:meth:`call` with NaN around the operands, in new tensors, and canaries behind them.

        Raises:
            Finding: as ``call``; or memory of nobody was written.
        """
        surrounded = guards.guarded(inputs)
        try:
            with guards.watched_outputs():
                output = self.call(surrounded)
            guards.check_margins(surrounded)
        except guards.Overrun as overrun:
            raise Finding(str(overrun)) from overrun
        return output

    def verify(self, inputs: Any, output: Tensor, what: str = "is off") -> float:
        """The share of the bound that ``output`` takes, at most 1; 0 for exact ops.

        Raises:
            Finding: it is more somewhere, or the shape is wrong.
        """
        op = self.kernel.definition
        reference = op.define(inputs)
        if output.shape != reference.shape:
            raise Finding(f"returned the shape {tuple(output.shape)}, not {tuple(reference.shape)}")
        if op.bound is None:
            return exactly(output, reference, what)
        bound = op.bound(inputs, self.kernel.precision(inputs.x.dtype))
        return compare(output, reference, bound, what)

    def measure(self) -> float:
        """Call guarded and verify."""
        inputs = self.inputs()
        return self.verify(inputs, self.guarded(inputs))


def exactly(output: Tensor, expected: Tensor, what: str) -> float:
    """0, if ``output`` is ``expected``, rounded once; the sign of zero is free, NaN equals NaN.

    Raises:
        Finding: it is not.
    """
    reference = expected.double()
    return compare(output, reference, torch.zeros_like(reference), what)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one dtype are equal bit by bit: NaN equals NaN, 0 is not -0."""
    return left.shape == right.shape and torch.equal(_bits(left), _bits(right))


def _bits(tensor: Tensor) -> Tensor:
    # A dimension of size 1 may have any stride in a tensor that counts as contiguous; not in a
    # copy.
    return tensor.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
