"""What a kernel takes, where that is less than its op has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: How a kernel may refuse operands.
REFUSALS = (ValueError, TypeError, NotImplementedError, AssertionError)


@dataclass(frozen=True)
class Contract:
    """Operands that a kernel takes; others it refuses with one of ``REFUSALS``, or gets right.

    Names are those of a case: ``rows``, ``k``, ``n``, ``layout``, ``bias``, ``pattern`` and the
    op's own parameters, as ``activation`` or ``group``.

    Attributes:
        multiples: of what a size must be one, by name.
        only: the values that something may have, by name, the simplest first.
    """

    multiples: Mapping[str, int] = field(default_factory=dict)
    only: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, step in self.multiples.items():
            if step < 1:
                raise ValueError(f"multiples of {name} must be of at least 1, not {step!r}")
        for name, values in self.only.items():
            if isinstance(values, str) or not len(values):
                raise ValueError(f"only {name} must be a sequence of values, not {values!r}")

    def __bool__(self) -> bool:
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
