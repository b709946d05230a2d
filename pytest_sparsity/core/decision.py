"""What a gate decides."""

from __future__ import annotations

from enum import Enum


class Decision(str, Enum):
    """What was measured, held against what it was measured before or beside."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    OK = "ok"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"

    @property
    def decided(self) -> bool:
        """Whether anything is known now."""
        return self not in (Decision.INCONCLUSIVE, Decision.NOT_COMPARABLE)
