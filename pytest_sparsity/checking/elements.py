"""A tensor by its addresses: which bytes of memory are its elements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pytest_sparsity.checking.guards import extent

Addresses = npt.NDArray[np.uint64]
Lanes = npt.NDArray[np.bool_]

_of_call: ContextVar[_Operands] = ContextVar("operands of the call")


@contextmanager
def operands_of_call(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, a kernel's wrapper is called with these operands; for this thread."""
    token = _of_call.set(_Operands(tensors))
    try:
        yield
    finally:
        _of_call.reset(token)


def known() -> Sequence[Elements]:
    """The operands of the call that is going on, none if they are not known."""
    found = _of_call.get(None)
    return () if found is None else found.elements


class _Operands:
    """The operands of a call, which may have several launches."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    @cached_property
    def elements(self) -> Sequence[Elements]:
        """Their elements."""
        return [Elements(name, tensor) for name, tensor in self._tensors.items()]


def storage_of(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of the tensor's storage, and behind the last."""
    storage = tensor.untyped_storage()
    start = storage.data_ptr()
    return start, start + storage.nbytes()


class Elements:
    """The elements of one tensor.

    Attributes:
        name: of the tensor.
        size: bytes of an element.
        start: address of the first one.
        stop: address behind the last one.
        storage: addresses of the first byte of the tensor's storage, and behind the last.
        complete: every byte from start to stop belongs to one.
    """

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.size = tensor.element_size()
        self.start = tensor.data_ptr()
        self.stop = self.start + extent(tensor) * self.size
        self.storage = storage_of(tensor)
        # The tensor must stay: its address means nothing once its memory is given to another.
        self.tensor = tensor
        pairs = zip(tensor.stride(), tensor.shape, strict=True)
        self._steps = sorted(((s, n) for s, n in pairs if s > 0 and n > 1), reverse=True)
        inner, nested = 1, True
        for stride, count in reversed(self._steps):
            nested = nested and stride >= inner
            inner += (count - 1) * stride
        # Where windows overlap, as_strided(3, 2) by (1, 1), there is no telling by division.
        filled = math.prod(count for _, count in self._steps) == inner
        self.complete = filled or not nested

    def spans(self, low: int, high: int) -> bool:
        """Whether all bytes from address ``low`` to before ``high`` are elements, at a glance."""
        return self.complete and low >= self.start and high <= self.stop

    def meets(self, low: int, high: int) -> bool:
        """Whether a byte from address ``low`` to before ``high`` may be an element."""
        return low < self.stop and high > self.start

    def hold(self, addresses: Addresses, size: int) -> Lanes:
        """Which accesses of ``size`` bytes hit elements only: [lanes]."""
        if self.stop - self.start < size:
            return np.zeros(len(addresses), bool)
        offsets = addresses - np.uint64(self.start)  # below start: wraps to beyond stop
        inside: Lanes = offsets <= np.uint64(self.stop - self.start - size)
        if not self.complete:
            first = offsets // np.uint64(self.size)
            for place in range(max(size // self.size, 1)):
                inside &= self._holds(first + np.uint64(place))
        return inside

    def _holds(self, places: Addresses) -> Lanes:
        """Whether there are elements so many elements after the first one."""
        held: Lanes = np.ones(len(places), bool)
        for stride, count in self._steps:
            index, places = np.divmod(places, np.uint64(stride))
            held &= index < np.uint64(count)
        held &= places == 0
        return held
