"""Simpler cases than one, in the order in which they are worth a try when a kernel fails it.

Everything is made simple at once, then by halves, and sizes are tried upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.record import OpRecord, values_of, with_values
from pytest_sparsity.checking.space import Space, space
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel


def simpler_cases(own: OpRecord, kernel: Kernel, check: str) -> Callable[[Case], Iterator[Case]]:
    """From a case to simpler ones of a check, over all that cases of the op may vary in."""
    found = CHECKS[check]
    cases = found.cases(kernel)
    choices = (cases if isinstance(cases, Space) else space(own.op.name, kernel)).choices

    def simpler(case: Case) -> Iterator[Case]:
        values = values_of(case)
        lower = {name: _lower(choices.get(name, ()), values[name]) for name in values}
        names = [name for name in (*choices, *values) if lower.get(name)]
        names = list(dict.fromkeys(names))
        for some in _parts(names):
            yield from fitted(case, {name: lower[name][0] for name in some})
        for name in names:
            for value in lower[name][1:]:
                yield from fitted(case, {name: value})

    def fitted(case: Case, changed: dict[str, Any]) -> Iterator[Case]:
        """The case with these values, if the op and the kernel can have it."""
        try:
            one = own.fitted(with_values(case, values_of(case) | changed))
            one = one if found.beyond else own.taken(one, kernel)
        except (SparsityError, ValueError, TypeError):
            return
        if one != case:
            yield one

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
