"""What a kernel reads and writes, address by address: bytes per operand, accesses outside.

Knows nothing of Triton: the interpreter reports the addresses of every load, store and atomic,
and this counts them against the operands a check named and the tensors a launch was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_sparsity.checking.elements import Addresses, Elements, Lanes, storage_of
from pytest_sparsity.checking.guards import extent
from pytest_sparsity.checking.races import Event, Program, RaceCondition, races

Access = Literal["load", "store", "atomic"]

#: Bytes that a GPU moves at least: a sector of a cache line.
SECTOR = 32
#: Violations kept for the report; a kernel that has one usually has thousands.
_KEPT = 20


@dataclass(frozen=True)
class Violation:
    """Lanes of one access that hit what is not theirs.

    Attributes:
        access: what they did.
        lanes: how many.
        near: name of the tensor they came closest to.
        offset: bytes from the beginning of that tensor to the first such lane.
        inside: whether that is in memory of the tensor's storage that belongs to no element of
            it: the gap between two rows, or a margin; else it is in no tensor at all.
        place: kernel, program and line of the access.
    """

    access: Access
    lanes: int
    near: str
    offset: int
    inside: bool
    place: str

    def __str__(self) -> str:
        where = "beside the elements" if self.inside else "outside"
        return (
            f"{self.lanes} lane{'s' * (self.lanes > 1)} of a {self.access} {where} of {self.near}, "
            f"the first {self.offset} bytes from its beginning, in {self.place}"
        )


class OutOfBounds(Exception):
    """A launch that nobody watches touched memory outside of the tensors it was given."""


@dataclass(frozen=True)
class Reads:
    """What was loaded of one operand.

    Attributes:
        counts: int32, of the operand's shape: how often each element was loaded.  Lanes of one
            load that share an address load it once, as in hardware.
        bytes: in all, repetitions included.
        sectors: distinct 32-byte sectors of memory with an element that was loaded.
        factor: bytes over the bytes of the whole operand; 0 if that is empty.
    """

    counts: Tensor
    bytes: int
    sectors: int
    factor: float


@dataclass(frozen=True)
class Sharing:
    """What an access means to other programs.

    Attributes:
        atomic: it may meet others of its kind.
        acquires: what comes after it comes after what was released at its place.
        releases: what came before it is released at its place.
    """

    atomic: bool = False
    acquires: bool = False
    releases: bool = False


PLAIN, RELAXED = Sharing(), Sharing(atomic=True)


class _Operand(Elements):
    """The elements of an operand, and how often each was loaded."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        super().__init__(name, tensor)
        self.counts = np.zeros(extent(tensor), np.int32)
        self._shape, self._strides = tuple(tensor.shape), tensor.stride()

    def _view(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``flat``, one entry per element from start to stop, seen with the tensor's strides."""
        strides = [stride * flat.itemsize for stride in self._strides]
        if 0 in self._shape:
            return np.empty(self._shape, flat.dtype)
        return np.lib.stride_tricks.as_strided(flat, self._shape, strides)

    def count(self, addresses: Addresses, size: int) -> None:
        """Add loads of ``size`` bytes; lanes of one load that share an address load it once."""
        first = ((addresses - np.uint64(self.start)) // np.uint64(self.size)).astype(np.int64)
        for place in range(max(size // self.size, 1)):
            self.counts[first + place] += 1  # repeated indices count once

    def reads(self) -> Reads:
        """The report."""
        total = int(self.counts.sum()) * self.size
        loaded = np.flatnonzero(self.counts) * self.size + self.start % SECTOR
        ends = np.concatenate([loaded, loaded + self.size - 1]) // SECTOR
        whole = int(np.prod(self._shape)) * self.size
        return Reads(
            counts=torch.from_numpy(self._view(self.counts).copy()),
            bytes=total,
            sectors=len(np.unique(ends)),
            factor=total / whole if whole else 0.0,
        )


@dataclass
class Traffic:
    """What the launches under watch did.

    Attributes:
        launches: names of the kernels launched, in order.
        violations: accesses outside of all tensors or beside the elements of an operand; the
            first few.
        atomics: most atomic updates of one address in one launch.
        races: the first race of each launch that has one.
        same: most places of one launch that several programs stored the same value to.
    """

    launches: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    atomics: int = 0
    races: list[str] = field(default_factory=list)
    same: int = 0
    _operands: list[_Operand] = field(default_factory=list)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Traffic:
        """Nothing yet, of these operands."""
        return cls(_operands=[_Operand(name, tensor) for name, tensor in tensors.items()])

    @property
    def counts(self) -> dict[str, tuple[Tensor, npt.NDArray[np.int32]]]:
        """Of each operand: the tensor, and how often each of its elements was loaded so far.

        Elements from the first to the last in memory; who counts elsewhere adds to it.
        """
        return {each.name: (each.tensor, each.counts) for each in self._operands}

    def reads(self, name: str) -> Reads:
        """What was loaded of the operand ``name``.

        Raises:
            KeyError: there is none of that name.
        """
        return {operand.name: operand for operand in self._operands}[name].reads()


class Launch:
    """The memory of one launch: decides which accesses are legal and adds them to a Traffic."""

    def __init__(
        self,
        traffic: Traffic | None,
        kernel: str,
        tensors: Sequence[tuple[str, Tensor]],
        operands: Sequence[Elements] = (),
    ) -> None:
        """Begin a launch of ``kernel``.

        Legal is what hits elements of an operand, wherever its pointer came from, or of a tensor
        that the wrapper made and gives to the launch: of a view, up to its last element.

        Args:
            traffic: to add to; None if nobody watches: the first violation is an exception.
            kernel: its name.
            tensors: those among its arguments, with the arguments' names.
            operands: of the wrapper's call, if they are known; those of ``traffic`` are.
        """
        self._watched = traffic is not None
        self._traffic = traffic = traffic or Traffic()
        traffic.launches.append(kernel)
        self._operands = [*traffic._operands, *operands]
        known = {operand.storage for operand in self._operands}
        #: Of tensors the wrapper made.
        self._own = [
            Elements(name, tensor) for name, tensor in tensors if storage_of(tensor) not in known
        ]
        self._all = (*self._operands, *self._own)
        self._atomics: list[Addresses] = []
        self._events: list[Event] = []

    def access(
        self,
        addresses: Addresses,
        size: int,
        kind: Access,
        place: Callable[[Program | None], str],
        program: Program = (),
        values: npt.NDArray[Any] | None = None,
        sharing: Sharing = PLAIN,
    ) -> Lanes | None:
        """Record accesses of ``size`` bytes at ``addresses``; which are legal, None if all are.

        Args:
            addresses: of the active lanes, [lanes].
            size: bytes per lane.
            kind: what is done there.
            place: says where in the source, with the program if it is given one.
            program: which of the launch does it.
            values: what is stored, [lanes].
            sharing: whether it is atomic, and what it orders.

        Raises:
            OutOfBounds: one is not, and nobody watches.
        """
        if not len(addresses):
            return None
        if kind == "atomic":
            self._atomics.append(addresses)
        low, high = int(addresses.min()), int(addresses.max()) + size
        legal, near = None, None
        if not self._watched:
            near = next((each for each in self._all if each.spans(low, high)), None)
        if near is None:
            legal, near = self._legal(addresses, size, kind, low, high)
        # Operands are there to be loaded: who stores to one fails another check.
        if kind != "load" or sharing.atomic or near not in self._operands:
            home = ("memory of nobody", 0) if near is None else (near.name, near.start)
            self._events.append(
                Event(
                    "atomic" if sharing.atomic else kind,
                    program,
                    addresses,
                    size,
                    low,
                    high,
                    place(None),
                    home,
                    values,
                    sharing.acquires,
                    sharing.releases,
                )
            )
        if legal is not None:
            self._blame(addresses[~legal], size, kind, place(program))
            if not self._watched:
                raise OutOfBounds(str(self._traffic.violations[0]))
        return legal

    def _legal(
        self, addresses: Addresses, size: int, kind: Access, low: int, high: int
    ) -> tuple[Lanes | None, Elements | None]:
        """Which accesses are legal, None if all are, and one of the tensors that they hit."""
        legal, near = np.zeros(len(addresses), bool), None
        for elements in self._all:
            if elements.meets(low, high):
                held = elements.hold(addresses, size)
                if isinstance(elements, _Operand) and kind != "store":
                    elements.count(addresses[held], size)
                legal |= held
                near = near or elements
        return (None if legal.all() else legal), near

    def finish(self) -> None:
        """End the launch.

        Raises:
            RaceCondition: two of its programs are in each other's way, and nobody watches.
        """
        self._traffic.atomics = max(self._traffic.atomics, _most(self._atomics))
        found = races(self._events)
        self._traffic.same = max(self._traffic.same, found.same)
        if found.first is not None:
            self._traffic.races.append(found.first)
            if not self._watched:
                raise RaceCondition(found.first)

    def _blame(self, strays: Addresses, size: int, kind: Access, place: str) -> None:
        """Add what ``strays`` did to the violations, apart for each tensor they are closest to."""
        named = [(e.name, e.start, (e.start, e.stop), e.storage) for e in self._all]
        named = named or [("no tensor", 0, (0, 0), (0, 0))]
        within = np.array([_within(strays, size, storage) for *_, storage in named])
        closest = np.array([_distance(strays, span) for *_, span, _ in named]).argmin(0)
        for index, (name, start, _, _) in enumerate(named):
            for inside in (True, False):
                mine = (closest == index) & (within[index] == inside)
                if mine.any() and len(self._traffic.violations) < _KEPT:
                    offset = int(strays[mine][0]) - start
                    self._traffic.violations.append(
                        Violation(kind, int(mine.sum()), name, offset, inside, place)
                    )


def _most(addresses: Sequence[Addresses]) -> int:
    """How often the most frequent one is there."""
    if not addresses:
        return 0
    _, counts = np.unique(np.concatenate(addresses), return_counts=True)
    return int(counts.max())


def _within(addresses: Addresses, size: int, span: tuple[int, int]) -> Lanes:
    start, stop = span
    if stop - start < size:
        return np.zeros(len(addresses), bool)
    inside: Lanes = addresses - np.uint64(start) <= np.uint64(stop - start - size)
    return inside


def _distance(addresses: Addresses, span: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Bytes from each address to the nearest byte of ``span``; 0 within."""
    at = addresses.astype(np.float64)
    distance: npt.NDArray[np.float64] = np.maximum(
        np.maximum(span[0] - at, at - (span[1] - 1)), 0.0
    )
    return distance
