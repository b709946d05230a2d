"""What a check found wrong, and how it is told."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference.precision import tolerance_used


@dataclass(frozen=True)
class Element:
    """One element of a result that is off.

    Attributes:
        index: where in the result.
        value: what the kernel gave.
        reference: what is right, float64.
        bound: how far the two may be apart.
    """

    index: tuple[int, ...]
    value: float
    reference: float
    bound: float

    @property
    def error(self) -> float:
        """How far the two are apart; NaN if one of them is."""
        return abs(self.value - self.reference)

    @property
    def ratio(self) -> float:
        """Error over bound; infinite where the bound is zero or the error not a number."""
        if self.bound == 0 or math.isnan(self.error):
            return math.inf
        return self.error / self.bound

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        told = f"output[{place}] is {self.value:.9g}, should be {self.reference:.9g}"
        if math.isnan(self.error):
            return told
        if self.bound == 0:
            return f"{told}: error {self.error:.3g}, must be exact"
        return (
            f"{told}: error {self.error:.3g}, bound {self.bound:.3g}, "
            f"{self.ratio:.3g} times the bound"
        )


#: What torch says where it can do something on a GPU only, and what that means for a kernel.
_OBSTACLES = (
    (re.compile(r'"(\w+)" not implemented for \'(\w+)\''), "torch has no {0} of {1} on the CPU"),
    (
        re.compile(r"Could not run '([\w:.]+)' with arguments from the 'CPU' backend"),
        "{0} is there for GPUs only",
    ),
    (
        re.compile(r"Block pointers have been removed"),
        "it has block pointers (tl.make_block_ptr), which this version of Triton does not compile",
    ),
)


class CheckFailure(Exception):
    """A kernel does not do what it is held to.

    Attributes:
        what: what is wrong, part of a sentence that begins with the kernel.
        element: the worst element of the result, if it is about values.
    """

    def __init__(self, what: str, element: Element | None = None) -> None:
        super().__init__(what, element)
        self.what = what
        self.element = element

    def __str__(self) -> str:
        return self.what if self.element is None else f"{self.what}; the worst: {self.element}"


def compare(output: Tensor, reference: Tensor, bound: Tensor, what: str) -> float:
    """The largest share of ``bound`` that errors of ``output`` take, at most 1.

    Args:
        output: [...], of any dtype.
        reference: float64 of its shape.
        bound: float64 of its shape; where it is 0, ``output`` must be ``reference`` rounded once.
        what: the beginning of what is found otherwise.

    Raises:
        CheckFailure: it is more than 1 somewhere.
    """
    if output.numel() == 0:
        return 0.0
    exact = (output == reference.to(output.dtype)) & (bound == 0)
    used = torch.where(exact, 0.0, tolerance_used(output, reference, bound))
    worst = int(used.argmax())
    largest = float(used.flatten()[worst])
    if largest <= 1:
        return largest
    index = tuple(int(place) for place in torch.unravel_index(torch.tensor(worst), used.shape))
    wrong = int((used > 1).sum())
    raise CheckFailure(
        f"{what} at {wrong} of {used.numel()} elements",
        Element(index, float(output[index]), float(reference[index]), float(bound[index])),
    )


def same_numbers(output: Tensor, expected: Tensor, what: str) -> None:
    """See that whole numbers, or truths, are equal; float64 does not hold all of them.

    Raises:
        CheckFailure: one is not.
    """
    wrong = (output != expected.to(output.dtype)).nonzero()
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise CheckFailure(
            f"{what} at {len(wrong)} of {output.numel()} elements",
            Element(index, float(output[index]), float(expected[index]), 0.0),
        )


class CannotCheck(Exception):
    """Something stands in the way of checking a kernel, which is not to blame; the case is skipped.

    Attributes:
        reason: part of a sentence that is about the kernel as "it".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def obstacle(error: BaseException | None) -> CannotCheck | None:
    """What stood in the way, if ``error`` or what it was raised from says so."""
    while error is not None:
        if isinstance(error, CannotCheck):
            return error
        for pattern, reason in _OBSTACLES if isinstance(error, RuntimeError) else ():
            if found := pattern.search(str(error)):
                return CannotCheck(reason.format(*found.groups()))
        error = error.__cause__ or error.__context__
    return None
