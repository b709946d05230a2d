"""Seeks the simplest case in which a kernel still ends its process.

Each case that fails costs a process, and one that does not next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.process import Death

#: Processes that may end on the way, and cases that may be tried.
_DEATHS, _TRIES = 12, 150


def simplest_death(
    first: Death,
    attempt: Callable[[Case], Death | None],
    simpler: Callable[[Case], Iterator[Case]],
) -> Death | None:
    """The same death in the simplest case that is found; None if the case alone does not bring it.

    Args:
        first: in some case, after others.
        attempt: of a case by itself; how the process ended, or None if it did not.
        simpler: cases that are simpler than one, in the order in which they are tried.
    """
    found = None
    deaths, tried = _DEATHS, set[Case]()
    candidates: Iterator[Case] = iter(() if first.case is None else (first.case,))
    for _ in range(_TRIES):
        case = next((each for each in candidates if each not in tried), None)
        if case is None or not deaths:
            break
        tried.add(case)
        death = attempt(case)
        if death is None:
            continue
        deaths -= 1
        if death.hung:  # each costs as long as is waited for one
            break
        if death.reason == first.reason:
            found, candidates = death, simpler(case)
    return found
