"""Races between the programs of a launch: accesses to one place that nothing orders.

Programs run one after another in the interpreter, and at the same time on a GPU.  One may not read
or overwrite what another one writes, unless atomics are between them: the one does an atomic
(``sem`` of ``release`` or ``acq_rel``, Triton's default) after its access, the other one an atomic
(``acquire`` or ``acq_rel``) at the same place, later and before its own.  Who comes first by such a
chain is kept in sets of segments, the pieces into which a program's atomics cut it (happens-before,
as in Lamport 1978; FastTrack, Flanagan and Freund 2009, does so for threads).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pytest_sparsity.checking.elements import Addresses

Kind = Literal["load", "store", "atomic"]
Places = npt.NDArray[np.int64]
Program = tuple[int, ...]

_DONE = {"load": "loads", "store": "stores", "atomic": "does an atomic"}


@dataclass(frozen=True)
class Event:
    """One access of one program.

    Attributes:
        kind: what it does; an atomic load is ``atomic`` too.
        program: which one.
        addresses: of its lanes, [lanes].
        size: bytes per lane.
        low: the least of the addresses.
        high: the address behind the last byte.
        at: where in the source.
        name: of the tensor that it hits, and its first address.
        values: what is stored, [lanes].
        acquires: it is an atomic, and what comes after it comes after what was released there.
        releases: it is an atomic, and what came before it is released there.
    """

    kind: Kind
    program: Program
    addresses: Addresses
    size: int
    low: int
    high: int
    at: str
    name: tuple[str, int]
    values: npt.NDArray[Any] | None = None
    acquires: bool = False
    releases: bool = False


class RaceCondition(Exception):
    """Two programs of a launch use one place, and nothing says which comes first."""


@dataclass(frozen=True)
class Races:
    """What there is among the accesses of a launch.

    Attributes:
        first: the first race, in words; None if there is none.
        same: how many places several programs stored the same value to, in no order.
    """

    first: str | None = None
    same: int = 0


def races(events: Sequence[Event]) -> Races:
    """The races among accesses of one launch, in the order in which they were made."""
    shared = _shared(events)
    return _Order(events, *shared).races() if shared is not None else Races()


def _shared(events: Sequence[Event]) -> tuple[int, Places] | None:
    """Places that one program writes and another one uses; None in the usual case of none.

    As numbers of pieces of memory of so many bytes, ascending.
    """
    written = [event for event in events if event.kind != "load"]
    if not written or len({event.program for event in events}) == 1:
        return None
    low, high = min(e.low for e in written), max(e.high for e in written)
    near = [event for event in events if event.low < high and event.high > low]
    if _apart(near):
        return None
    size = min(event.size for event in near)
    programs = {program: index for index, program in enumerate({e.program for e in near})}
    places = [_pieces(event, size) for event in near]
    lengths = [len(each) for each in places]
    at = np.concatenate(places)
    by = np.repeat([programs[event.program] for event in near], lengths)
    kinds = np.repeat([("load", "atomic", "store").index(event.kind) for event in near], lengths)
    order = np.argsort(at, kind="stable")
    at, by, kinds = at[order], by[order], kinds[order]
    starts = np.flatnonzero(np.diff(at, prepend=at[0] - 1))
    several = np.minimum.reduceat(by, starts) != np.maximum.reduceat(by, starts)
    most, least = np.maximum.reduceat(kinds, starts), np.minimum.reduceat(kinds, starts)
    # Loads alone, and atomics alone, do each other no harm.
    found = at[starts[several & ((most == 2) | (most != least))]]
    return (size, found) if len(found) else None


def _apart(events: Sequence[Event]) -> bool:
    """Whether no access of one program is between those of another, at a glance."""
    ordered = sorted(events, key=lambda event: event.low)
    end, program = 0, None
    for event in ordered:
        if event.low < end and event.program != program:
            return False
        if event.high > end:
            end, program = event.high, event.program
        # What lies within an access of the same program leaves that program's behind.
    return True


def _pieces(event: Event, size: int) -> Places:
    """Numbers of the pieces of ``size`` bytes that an access touches."""
    first: Places = (event.addresses // np.uint64(size)).astype(np.int64)
    if event.size == size:
        return first
    pieces: Places = (first[:, None] + np.arange(event.size // size)).ravel()
    return pieces


class _Order:
    """Goes through accesses to shared places in their order, and knows what came before what."""

    def __init__(self, events: Sequence[Event], size: int, places: Places) -> None:
        self._events, self._size, self._places = events, size, places
        #: Sets of segments, as bits; places hold numbers of sets.
        self._sets, self._numbers = [0], {0: 0}
        self._stores, self._loads, self._atomics = (np.zeros(len(places), int) for _ in range(3))
        atomics = [_pieces(event, size) for event in events if event.kind == "atomic"]
        self._sync = np.unique(np.concatenate(atomics)) if atomics else np.zeros(0, np.int64)
        self._released = np.zeros(len(self._sync), int)
        #: Of each segment its program; of each program what came before, and its own segments.
        self._owners: list[Program] = []
        self._before: dict[Program, int] = {}
        self._own: dict[Program, int] = {}
        self._same: set[int] = set()

    def races(self) -> Races:
        """The first race, and what is no harm."""
        for index, event in enumerate(self._events):
            bit = self._segment(event)
            found = self._conflict(index, event, bit)
            if found is not None:
                return Races(found, len(self._same))
            if event.releases:
                self._release(event, bit)
        return Races(None, len(self._same))

    def _segment(self, event: Event) -> int:
        """The bit of the segment that an access belongs to."""
        program = event.program
        if event.acquires:
            at = np.searchsorted(self._sync, _pieces(event, self._size))
            before = self._before.get(program, 0)
            for number in np.unique(self._released[at]):
                before |= self._sets[number]
            self._before[program] = before
        if program in self._own and not event.acquires:
            return self._last(program)
        self._owners.append(program)
        bit = 1 << (len(self._owners) - 1)
        self._own[program] = self._own.get(program, 0) | bit
        return bit

    def _last(self, program: Program) -> int:
        return 1 << (self._own[program].bit_length() - 1)

    def _release(self, event: Event, bit: int) -> None:
        """Let later atomics there come after all of the program so far; begin a new segment."""
        program = event.program
        so_far = self._before.get(program, 0) | self._own[program]
        at = np.searchsorted(self._sync, _pieces(event, self._size))
        for number in np.unique(self._released[at]):
            mine = at[self._released[at] == number]
            self._released[mine] = self._number(self._sets[number] | so_far)
        self._owners.append(program)
        self._own[program] |= 1 << (len(self._owners) - 1)

    def _conflict(self, index: int, event: Event, bit: int) -> str | None:
        """What race an access has with an earlier one; else it is entered."""
        pieces = _pieces(event, self._size)
        at = np.searchsorted(self._places, pieces)
        at[at == len(self._places)] = 0
        at = at[self._places[at] == pieces]
        if not len(at):
            return None
        allowed = self._before.get(event.program, 0) | self._own[event.program]
        among: dict[Kind, Places] = {"store": self._stores}
        if event.kind != "atomic":
            among["atomic"] = self._atomics
        if event.kind != "load":
            among["load"] = self._loads
        for kind, numbers in among.items():
            for number in np.unique(numbers[at]):
                others = self._sets[number] & ~allowed
                if not others:
                    continue
                mine = at[numbers[at] == number]
                if kind == event.kind and (same := self._equal(index, event, mine, others)):
                    self._same |= same
                    continue
                return self._told(index, event, kind, int(mine[0]), others)
        self._enter(event, at, bit)
        return None

    def _enter(self, event: Event, at: Places, bit: int) -> None:
        numbers = {"load": self._loads, "atomic": self._atomics, "store": self._stores}[event.kind]
        if event.kind == "store":
            # Who comes after this store comes after what it was allowed to overwrite.
            allowed = self._before.get(event.program, 0) | self._own[event.program]
            for number in np.unique(numbers[at]):
                kept = self._sets[number] & ~allowed
                numbers[at[numbers[at] == number]] = self._number(kept | bit)
            self._loads[at] = self._atomics[at] = 0
            return
        for number in np.unique(numbers[at]):
            numbers[at[numbers[at] == number]] = self._number(self._sets[number] | bit)

    def _number(self, segments: int) -> int:
        if segments not in self._numbers:
            self._numbers[segments] = len(self._sets)
            self._sets.append(segments)
        return self._numbers[segments]

    def _equal(self, index: int, event: Event, at: Places, others: int) -> set[int]:
        """The places, if what others stored to all of them is what this access stores."""
        own = self._stored(event)
        places = {int(self._places[place]) for place in at}
        for earlier in self._events[:index]:
            if earlier.kind == "store" and self._touches(earlier, others):
                theirs = self._stored(earlier)
                if any(theirs.get(place, own.get(place)) != own.get(place) for place in places):
                    return set()
        return places

    def _stored(self, event: Event) -> dict[int, bytes]:
        """What an access stores, by the piece that it begins in."""
        assert event.values is not None  # of stores
        pieces = event.addresses // np.uint64(self._size)
        return {int(p): v.tobytes() for p, v in zip(pieces, event.values, strict=True)}

    def _touches(self, event: Event, segments: int) -> bool:
        return any(self._owners[number] == event.program for number in _bits(segments))

    def _told(self, index: int, event: Event, kind: Kind, at: int, others: int) -> str:
        place = self._places[at]
        earlier = next(
            each
            for each in reversed(self._events[:index])
            if each.kind == kind
            and self._touches(each, others)
            and bool((_pieces(each, self._size) == place).any())
        )
        name, start = event.name
        return (
            f"at byte {int(place) * self._size - start} of {name} program {event.program} "
            f"{_DONE[event.kind]}, in {event.at}, and program {earlier.program} {_DONE[kind]}, in "
            f"{earlier.at}: no atomic orders them, and on a GPU they run at the same time"
        )


def _bits(segments: int) -> Iterator[int]:
    while segments:
        lowest = segments & -segments
        yield lowest.bit_length() - 1
        segments ^= lowest
