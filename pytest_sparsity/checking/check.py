"""What a check is, and the cases that most of them are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.checking.activations import SPECIAL
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.checking.space import Space, space
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels.registry import Kernel


@dataclass(frozen=True)
class Check:
    """One property that kernels are held to.

    Attributes:
        name: as it is asked for.
        proves: what is known of a kernel that passes.
        run: does it for one case; the largest share of the error bound that was taken, 0 where
            none is involved.  Raises CheckFailure.
        cases: those it is for, a space to draw from or a list, simplest first.
        condition: which kernels it is for, in words.
        applies: whether a kernel is one of them.
        unavailable: why it cannot be done here on a device, None if it can.
        cost: of a case, in ordinary cases: that many fewer are drawn.
        values: what the weights of its cases must be; empty if that is open.
    """

    name: str
    proves: str
    run: Callable[[Trial], float]
    cases: Callable[[Kernel], Space | Sequence[Case]]
    condition: str = "any kernel"
    applies: Callable[[Kernel], bool] = lambda kernel: True
    unavailable: Callable[[str], str | None] = lambda device: None
    cost: int = 1
    values: str = ""


def finite(kernel: Kernel) -> tuple[str, ...]:
    """Patterns without anything but ordinary numbers."""
    return tuple(p for p in record(kernel.op).patterns if p not in SPECIAL)


def ordinary(kernel: Kernel, **fixed: Any) -> Space:
    """The op's space without special numbers, and with other values of parameters that it has."""
    own = record(kernel.op).space
    wanted = {"pattern": finite(kernel), **fixed}
    return space(kernel.op, kernel, **{name: v for name, v in wanted.items() if name in own})


def relations_of(kernel: Kernel) -> Relations:
    """What is known of the kernel's op beside its definition."""
    return record(kernel.op).relations
