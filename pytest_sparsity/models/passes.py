"""How a model may be run, as :mod:`pytest_sparsity.models.packing` finds it."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from pytest_sparsity.models.rope import ScaledRope, regime


@dataclass(frozen=True)
class Packing:
    """How sequences of a model may be run.

    Attributes:
        packs: several as one row, with positions and a mask.
        beginnings: what they begin with by itself, then several tokens after a copy of its cache.
        steps: after a cache, one token at a time.
        one_at_a_time: the model keeps something of a pass, so none may run beside another.
        kept: the tensors that hold it, as (module, attribute); none before the first pass.
        ropes: positions that depend on how long a sequence is.
        limit: tokens of the longest sequence that packs; None for no limit.
        cached: tokens of the longest sequence that is run after a cache; None for no limit.
        reason: why not packed, for people; empty if it is.
    """

    packs: bool
    beginnings: bool
    steps: bool
    one_at_a_time: bool
    kept: tuple[tuple[str, str], ...]
    ropes: tuple[ScaledRope, ...]
    limit: int | None
    cached: int | None
    reason: str

    def may_pack(self, length: int) -> bool:
        """Whether a sequence of ``length`` tokens may stand in a row with others."""
        return self.packs and (self.limit is None or length <= self.limit)

    def regime(self, length: int) -> Hashable:
        """A cache of sequences serves longer ones while this stays the same."""
        beyond = self.cached is not None and length > self.cached
        return regime(self.ropes, length), length if beyond else 0


@dataclass(eq=False)
class Passes:
    """What a model and its twins have in common when they are run.

    Attributes:
        packing: what of a sequence may be run apart; None until :func:`~.packing.packing` is asked.
        turn: held by whoever runs a model that keeps something of its last pass.
    """

    packing: Packing | None = None
    turn: threading.RLock = field(default_factory=threading.RLock)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied model takes turns of its own: a lock cannot be copied."""
        return Passes, (self.packing,)
