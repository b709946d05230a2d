"""What a gate decides."""

from __future__ import annotations

from enum import Enum


class Decision(str, Enum):
    """What was measured, held against what it was measured before or beside."""

    REGRESSED = "regressed"
    #: Worse by itself, as one of so many may be by chance; it does not hold for the run.
    SUSPECT = "suspect"
    IMPROVED = "improved"
    OK = "ok"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"

    @property
    def decided(self) -> bool:
        """Whether anything is known now."""
        open_ = (Decision.SUSPECT, Decision.INCONCLUSIVE, Decision.NOT_COMPARABLE)
        return self not in open_
