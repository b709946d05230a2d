"""What a failure needs beside its own case: cases that the same process ran before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.runner import CheckResult

#: A case in a fresh process, after others: its failure, or None if it passes.
Fails = Callable[[Case, Sequence[Case]], CheckResult | None]


def after_others(found: CheckResult, fails: Fails) -> CheckResult:
    """A failure that does not come by itself, with as few earlier cases as bring it about.

    Args:
        found: ``case`` passes when it is the first of a process.
        fails: tries a case in a fresh process.
    """
    *before, case = found.begun
    if case != found.case and (alone := fails(case, ())) is not None:
        # What it was shrunk to needs others, which were tried meanwhile, and it does not.
        return replace(found, message=alone.message, case=case, element=alone.element)
    again = fails(case, before)
    if again is None:
        return replace(
            found,
            message=f"{found.message}, though not when a new process runs the same cases: it "
            "depends on what was checked before, or is left to chance",
        )
    # The later half is enough, or something of the earlier half is needed as well.
    start, stop = 0, len(before)
    while stop - start > 1:
        middle = (start + stop) // 2
        if (later := fails(case, before[middle:])) is None:
            stop = middle
        else:
            start, again = middle, later
    if len(before) - start > 1 and (alone := fails(case, [before[start]])) is not None:
        again, before = alone, [before[start]]
        start = 0
    needed = tuple(before[start:])
    what = "another case" if len(needed) == 1 else f"{len(needed)} others"
    return replace(
        found,
        message=f"{again.message}, after {what}: by itself the case passes",
        case=case,
        element=again.element,
        after=needed,
    )
