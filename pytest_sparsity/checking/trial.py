"""One kernel on one case: its operands, its call, and its result against the definition."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import guards, pretended_cuda
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.elements import operands_of_call
from pytest_sparsity.checking.emulation.launching import CudaFault, emulating
from pytest_sparsity.checking.failure import (
    CannotCheck,
    CheckFailure,
    compare,
    obstacle,
    same_numbers,
)
from pytest_sparsity.checking.left_behind import leaving_nothing
from pytest_sparsity.checking.pretended_tensors import place_of, said_of
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.settling import KernelResult, in_order, settle
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.ops import as_tuple

#: The tensors of a result.
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Trial:
    """What a check is given.

    Attributes:
        kernel: to be checked.
        case: what its operands are.
        device: where they are.
        disposable: a crash of this process does no harm: memory may be made inaccessible.
        figures: what the check measured, in words; for the check to append to.
        known: the definition's results and bounds for the operands that were verified last.
    """

    kernel: Kernel
    case: Case
    device: str = "cpu"
    disposable: bool = False
    figures: list[str] = field(default_factory=list)
    known: dict[Any, tuple[Any, Tensors, Sequence[Tensor | None]]] = field(
        default_factory=dict, compare=False
    )

    @property
    def emulated(self) -> bool:
        """Whether its launches are emulated: they are of CUDA C++, and there is no device."""
        return self.kernel.source is not None and self.device == "cpu"

    @property
    def for_gpu(self) -> bool:
        """Whether the kernel is one for a GPU, wherever it runs."""
        return self.kernel.backend == "triton" or self.kernel.source is not None

    def inputs(self) -> Any:
        """The operands; a new copy every time.

        Raises:
            SparsityError: the op cannot have such operands.
        """
        try:
            return record(self.kernel.op).build(self.case, self.device)
        except ValueError as error:
            raise SparsityError(f"case {self.case} is none of {self.kernel.op}: {error}") from error

    def call(self, inputs: Any) -> Tensors:
        """The kernel's result: as many tensors as it must have, of the right dtypes and device.

        Raises:
            CheckFailure: it is another, or the kernel raised an exception, left a thread running
                or closed a standard stream.
            CannotCheck: something that it uses is not there without a GPU.
        """
        with pretended_cuda.scope(), leaving_nothing():
            return self._call(inputs)

    def _call(self, inputs: Any) -> Tensors:
        op = self.kernel.definition
        leading = op.lead(inputs)
        place = emulating() if self.emulated else nullcontext()
        try:
            with operands_of_call(operands.tensors(inputs)), place:
                output = self.kernel.call(**operands.arguments(inputs))
            if leading.is_cuda:
                torch.cuda.synchronize()  # where errors of the device show
        except CannotCheck:
            raise
        except CudaFault as fault:
            raise CheckFailure(str(fault)) from fault
        except (Exception, SystemExit) as error:
            if pretended_cuda.installed() and (missing := obstacle(error)):
                raise missing from error
            raise CheckFailure(f"raised {type(error).__name__}: {error}") from error
        found = self.tensors(output)
        # What is made for a CPU says no device, also where a pretended one counts what it reads.
        where = (lambda tensor: tensor.device) if self.for_gpu else place_of
        for tensor, declared, dtype in zip(found, op.outputs, op.dtypes(inputs), strict=True):
            which = f" as {declared.name}" if len(found) > 1 else ""
            for name, got, wanted in (
                ("dtype", tensor.dtype, dtype),
                ("device", where(tensor), leading.device),
            ):
                if got != wanted:
                    how = said_of(tensor) if name == "device" else ""
                    raise CheckFailure(
                        f"returned a tensor of {name} {got}{which}, not {wanted}{how}"
                    )
        return found

    def tensors(self, output: Any) -> Tensors:
        """The tensors of what a kernel returned.

        Raises:
            CheckFailure: they are no tensors, or not as many as the op has.
        """
        count = len(self.kernel.definition.outputs)
        if count == 1 and not isinstance(output, Tensor):
            raise CheckFailure(f"returned {type(output).__name__}, not a tensor")
        if count == 1:
            return (output,)
        if not isinstance(output, tuple | list) or not all(isinstance(t, Tensor) for t in output):
            raise CheckFailure(f"returned {type(output).__name__}, not {count} tensors in a tuple")
        if len(output) != count:
            raise CheckFailure(f"returned {len(output)} tensors, not {count}")
        return tuple(output)

    def guarded(self, inputs: Any) -> Tensors:
        """:meth:`call` with NaN around the operands, in new tensors, and canaries behind them.

        Raises:
            CheckFailure: as ``call``; or memory of nobody was written.
        """
        surrounded = guards.guarded(inputs)
        try:
            with guards.watched_outputs():
                output = self.call(surrounded)
            guards.check_margins(surrounded)
        except guards.Overrun as overrun:
            raise CheckFailure(str(overrun)) from overrun
        return output

    def verify(self, inputs: Any, output: Tensors, what: str = "is off") -> float:
        """The share of the bound that ``output`` takes, at most 1; 0 where it must be exact.

        Raises:
            CheckFailure: it is more somewhere, or a shape is wrong.
        """
        if known := self.known.get(_state_of(inputs)):
            _, references, bounds = known
            with contextlib.suppress(CheckFailure):
                return self._compared(output, references, bounds, what)
        op = self.kernel.definition
        own = op.lead(inputs).dtype
        precision = self.kernel.precision(own if own.is_floating_point else torch.float32)
        # What is on the edge is looked at only if the result is wrong without.
        outcomes = op.outcomes(inputs, precision) if op.outcomes and op.computed else None
        references = as_tuple(op.define(inputs)) if outcomes is None else outcomes.references

        def bounds_if(turned: Collection[int]) -> Sequence[Tensor | None]:
            if op.bound is None:
                return [None] * len(output)
            if outcomes is not None and op.computed:
                found = outcomes.bounds_if(turned)
            else:
                found = as_tuple(op.bound(inputs, precision))
            pairs = zip(found, op.outputs, strict=True)
            return [bound if of.kind == "numbers" else None for bound, of in pairs]

        bounds = bounds_if(())
        self.known.clear()  # they may be large
        self.known[_state_of(inputs)] = inputs, references, bounds
        try:
            return self._compared(output, references, bounds, what)
        except CheckFailure:
            if op.outcomes is None:
                raise
            outcomes = outcomes or op.outcomes(inputs, precision)
            used = settle(KernelResult(output, op.outputs), outcomes, bounds_if)
            if used is None:
                raise
            return used

    def _compared(
        self, output: Tensors, references: Tensors, bounds: Sequence[Tensor | None], what: str
    ) -> float:
        """The share of the bounds that ``output`` takes, beside the definition's own result.

        Raises:
            CheckFailure: it is more than 1 somewhere, or a shape is wrong.
        """
        used = 0.0
        for tensor, reference, bound, declared in zip(
            output, references, bounds, self.kernel.definition.outputs, strict=True
        ):
            if tensor.shape != reference.shape:
                raise CheckFailure(
                    f"returned the shape {tuple(tensor.shape)}, not {tuple(reference.shape)}"
                )
            told = what if len(output) == 1 else f"{what}, in {declared.name},"
            if bound is not None:
                used = max(used, compare(tensor, reference, bound, told))
            else:
                pair = tensor, reference
                if declared.kind == "set":
                    pair = in_order(tensor), in_order(reference.to(tensor.dtype))
                exactly(pair[:1], pair[1:], told)
        return used

    def measure(self) -> float:
        """Call guarded and verify."""
        inputs = self.inputs()
        return self.verify(inputs, self.guarded(inputs))


def _state_of(inputs: Any) -> tuple[int, ...]:
    """Tells operands from others, and from themselves before torch changed one of them."""
    tensors = operands.tensors(inputs).values()
    return (id(inputs), *(tensor._version for tensor in tensors))


def exactly(output: Tensors, expected: Tensors, what: str) -> float:
    """0, if ``output`` is ``expected``, rounded once; the sign of zero is free, NaN equals NaN.

    Raises:
        CheckFailure: it is not.
    """
    for tensor, right in zip(output, expected, strict=True):
        if not tensor.is_floating_point() and not right.is_floating_point():
            same_numbers(tensor, right, what)
            continue
        reference = right.double()
        compare(tensor, reference, torch.zeros_like(reference), what)
    return 0.0


def same_bits(left: Tensors, right: Tensors) -> bool:
    """Whether tensors of equal dtypes are equal bit by bit: NaN equals NaN, 0 is not -0."""
    return len(left) == len(right) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))
        for a, b in zip(left, right, strict=True)
    )


def _bits(tensor: Tensor) -> Tensor:
    # A dimension of size 1 may have any stride in a tensor that counts as contiguous; not in a
    # copy.
    return tensor.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
