"""What a kernel takes, where that is less than its op has, and what it does otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

#: How a kernel may refuse operands.
REFUSALS = (ValueError, TypeError, NotImplementedError, AssertionError)


@dataclass(frozen=True)
class Contract:
    """What a kernel promises, where that is not what its op has.

    Of operands beyond ``multiples`` and ``only`` it refuses each with one of ``REFUSALS``, or gets
    it right.  Names there are those of a case: ``rows``, ``k``, ``n``, ``layout``, ``bias``,
    ``pattern`` and the op's own parameters, as ``activation`` or ``group``.  Names in all else are
    those of operands.

    Attributes:
        multiples: of what a size must be one, by name.
        only: the values that something may have, by name, the simplest first.
        keeps: ``>`` as ops have it, or ``>=``: what is equal to a threshold counts as above it.
        granularity: the shape of the blocks of a weight that are read, or skipped, as a whole: one
            element that is needed, and all of its block may be read.  The result is that of the
            op all the same.
        adds: the dtype in which an operand, as a bias, is added to the sum of all else, where that
            is not ``accumulate``; ``operand`` for that of the result.
        outside: operands that another library multiplies, by the dtype in which that sums; it may
            read all of them, and gives its products in the dtype of the kernel's result.
    """

    multiples: Mapping[str, int] = field(default_factory=dict)
    only: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    keeps: str = ">"
    granularity: Mapping[str, Sequence[int]] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("multiples", "only", "granularity", "adds", "outside"):
            if not isinstance(given := getattr(self, name), Mapping):
                raise ValueError(f"{name} must be a mapping from names, not {given!r}")
        for name, step in self.multiples.items():
            if step < 1:
                raise ValueError(f"multiples of {name} must be of at least 1, not {step!r}")
        for name, values in self.only.items():
            if isinstance(values, str) or not len(values):
                raise ValueError(f"only {name} must be a sequence of values, not {values!r}")
        if self.keeps not in (">", ">="):
            raise ValueError(f"keeps must be '>' or '>=', not {self.keeps!r}")
        for name, block in self.granularity.items():
            if not isinstance(block, tuple | list) or not all(
                isinstance(size, int) and size >= 1 for size in block
            ):
                raise ValueError(
                    f"granularity of {name} must be the shape of a block, as (1, 32), not {block!r}"
                )
        for what, dtypes in (("adds", self.adds), ("outside", self.outside)):
            for name, dtype in dtypes.items():
                found = getattr(torch, str(dtype), None)
                if dtype != "operand" and not isinstance(found, torch.dtype):
                    raise ValueError(
                        f"{what} {name} must be operand or the name of a dtype of torch, not "
                        f"{dtype!r}"
                    )

    @property
    def limits(self) -> bool:
        """Whether there are operands beyond it."""
        return bool(self.multiples or self.only)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether operands with these values are taken; names that are absent do not matter."""
        return all(
            values[name] % step == 0 for name, step in self.multiples.items() if name in values
        ) and all(values[name] in among for name, among in self.only.items() if name in values)

    def nearest(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values that are taken: sizes rounded up, all else the simplest one where it is not."""
        found = dict(values)
        for name, among in self.only.items():
            if name in found and found[name] not in among:
                found[name] = among[0]
        for name, step in self.multiples.items():
            if name in found:
                found[name] = -(-found[name] // step) * step
        return found
