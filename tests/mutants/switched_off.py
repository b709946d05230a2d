"""Groups of decisive cases, to show that something dies by these alone.

Imported in a worker, it leaves out of all checks the group that the environment names.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from pytest_sparsity.checking import records, values
from pytest_sparsity.checking.case import SATURATED, Case
from pytest_sparsity.checking.record import Cases, OpRecord

VARIABLE = "MUTANTS_SWITCHED_OFF"

GROUPS = {
    "counters": "the last of 65,539 channels, outputs or neurons alone",
    "tiles": "one more than 512, 1,024 and 4,096 channels, outputs or neurons",
    "alone": "the last channel alone, beside tiles of 64, 128, 256",
    "saturated": "arguments of activation functions beyond -100 and 100",
    "overflow": "finite terms whose sum is beyond float32",
    "addresses": "one operand at every address that another vector load would need",
}
#: What 16 bits count, and the sizes beyond tiles, which ops may round up to whole groups.
_FAR, _BEYOND_TILES = 2**16, (range(513, 529), range(1025, 1041), range(4097, 4113))


def _sizes(case: Case) -> tuple[int, ...]:
    return case.k, case.n, int(case.option("hidden", 0))


def _alone(case: Case) -> bool:
    return case.pattern == "last" and case.level == 1.0


#: Which cases of fixed lists are in a group.
_LISTED: Mapping[str, Callable[[Case], bool]] = {
    "counters": lambda case: _alone(case) and max(_sizes(case)) >= _FAR,
    "tiles": lambda case: any(size in beyond for size in _sizes(case) for beyond in _BEYOND_TILES),
    "alone": lambda case: _alone(case) and max(_sizes(case)) < _FAR,
}


def _without(group: str, cases: Cases | None) -> Cases | None:
    if cases is None:
        return None
    return lambda own, kernel: [c for c in cases(own, kernel) if not _LISTED[group](c)]


def _record_without(group: str, own: OpRecord) -> OpRecord:
    if group in _LISTED:
        edges, counted = _without(group, own.edges), _without(group, own.counted)
        return dataclasses.replace(own, edges=edges, counted=counted)
    pattern = {"saturated": SATURATED, "overflow": "overflow"}[group]
    space: dict[str, Any] = dict(own.space)
    space["pattern"] = [each for each in space["pattern"] if each != pattern]
    return dataclasses.replace(own, space=space)


def _switch_off(group: str) -> None:
    if group == "addresses":
        values._elsewhere = lambda inputs, turn: inputs
        return
    records._RECORDS.update(
        {name: _record_without(group, own) for name, own in records._RECORDS.items()}
    )


if os.environ.get(VARIABLE):
    _switch_off(os.environ[VARIABLE])
