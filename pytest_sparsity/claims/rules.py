"""From intervals to outcomes: pure rules, each about the whole interval.

An interval that is not wholly on one side decides nothing, nor does one without limits or one
whose ends are NaN.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_sparsity.claims.finding import ClaimVerdict
from pytest_sparsity.core.statistics import Interval

_ERROR = 0.05


def below(interval: Interval, limit: float) -> ClaimVerdict:
    """Is the value less than ``limit``?"""
    return _decided(interval.high < limit, interval.low >= limit)


def above(interval: Interval, limit: float) -> ClaimVerdict:
    """Is the value more than ``limit``?"""
    return _decided(interval.low > limit, interval.high <= limit)


def at_least(interval: Interval, limit: float) -> ClaimVerdict:
    """Is the value ``limit`` or more?"""
    return _decided(interval.low >= limit, interval.high < limit)


def within(interval: Interval, low: float, high: float) -> ClaimVerdict:
    """Is the value in ``low`` to ``high``: is the difference too small to matter?

    An interval inside the margin is a test of equivalence (two one-sided tests, Schuirmann
    1987): no significant difference alone says nothing.
    """
    inside = low <= interval.low and interval.high <= high
    return _decided(inside, interval.low > high or interval.high < low)


def all_of(outcomes: Iterable[ClaimVerdict]) -> ClaimVerdict:
    """Whether every part holds.

    Refuted if any part is; otherwise untestable if any part is; supported only if all are.

    Raises:
        ValueError: there is no part.
    """
    found = set(outcomes)
    if not found:
        raise ValueError("a claim needs at least one part")
    for outcome in (ClaimVerdict.REFUTED, ClaimVerdict.UNTESTABLE, ClaimVerdict.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return ClaimVerdict.SUPPORTED


def confidence(parts: int) -> float:
    """Of each interval, where any of ``parts`` may refute a claim (Bonferroni): 1 - 0.05 / parts.

    Raises:
        ValueError: there is no part.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1, not {parts}")
    return 1 - _ERROR / parts


def _decided(holds: bool, fails: bool) -> ClaimVerdict:
    if holds:
        return ClaimVerdict.SUPPORTED
    return ClaimVerdict.REFUTED if fails else ClaimVerdict.INCONCLUSIVE
