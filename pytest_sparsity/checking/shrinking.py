"""Seeks the simplest case in which a kernel still ends its process.

Hypothesis shrinks what fails in a process that goes on; here each case that fails costs a process,
and one that does not next to nothing.  So everything is made simple at once, then by halves, and
sizes are tried upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.process import Death
from pytest_sparsity.checking.record import OpRecord, values_of, with_values
from pytest_sparsity.checking.space import Space, space
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel

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


def simpler_cases(own: OpRecord, kernel: Kernel, check: str) -> Callable[[Case], Iterator[Case]]:
    """From a case to simpler ones of a check, over all that cases of the op may vary in."""
    cases = CHECKS[check].cases(kernel)
    choices = (cases if isinstance(cases, Space) else space(own.op.name, kernel)).choices

    def simpler(case: Case) -> Iterator[Case]:
        values = values_of(case)
        lower = {name: _lower(choices.get(name, ()), values[name]) for name in values}
        names = [name for name in (*choices, *values) if lower.get(name)]
        names = list(dict.fromkeys(names))
        for some in _parts(names):
            yield from _fitted(own, kernel, case, {name: lower[name][0] for name in some})
        for name in names:
            for value in lower[name][1:]:
                yield from _fitted(own, kernel, case, {name: value})

    return simpler


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """All of them, halves, quarters, single ones."""
    size = len(names)
    while size:
        for start in range(0, len(names), size):
            yield names[start : start + size]
        size = size // 2


def _lower(choices: Sequence[Any], value: Any) -> list[Any]:
    """What is simpler than a value, the simplest first; of many sizes some."""
    if isinstance(choices, range):  # seeds: any other is as good
        return [choices[0]] if choices[0] != value else []
    among = [each for each in dict.fromkeys(choices) if type(each) is type(value)]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and not among:  # drawn as something else, as a share
        among = list(range(value + 1))
    if not whole:
        return among[: among.index(value)] if value in among else among[:1]
    found: list[int] = []
    for each in sorted(among):
        if each < value and (not found or each > found[-1] + found[-1] // 8):
            found.append(each)
    return found


def _fitted(own: OpRecord, kernel: Kernel, case: Case, changed: dict[str, Any]) -> Iterator[Case]:
    """The case with these values, if the op and the kernel can have it."""
    try:
        found = own.taken(own.fitted(with_values(case, values_of(case) | changed)), kernel)
    except (SparsityError, ValueError, TypeError):
        return
    if found != case:
        yield found
