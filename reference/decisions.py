"""Decisions inside a definition: what is above a threshold, the largest, the nearest whole number.

A kernel computes what it decides by with rounding, so a value on the edge may fall to either side,
and nothing else may.  A definition that decides by these functions lets what is computed from it
(``stochastic``) know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Decided(NamedTuple):
    """What was decided of each of some values; tensors of one shape.

    Attributes:
        measure: what was decided by; it moves as its errors do.
        distance: of ``measure`` from the nearest edge.
        chosen: bool, or whole numbers.
        other: what is right on the other side of that edge.
        ties: values on the very edge may fall to either side, also where they have no error.
    """

    measure: Tensor
    distance: Tensor
    chosen: Tensor
    other: Tensor
    ties: bool


#: From a decision, and how many were made before: what counts.
Ruling = Callable[[Decided, int], Tensor]


class _Ruled(threading.local):
    ruling: Ruling | None = None
    made: int = 0
    inclusive: bool = False
    compared: int = 0


_RULED = _Ruled()


def above(values: Tensor, threshold: Tensor | float) -> Tensor:
    """Whether ``values`` exceed ``threshold``: bool of their shape; NaN does.

    For a kernel whose contract keeps what is equal to the threshold as well, that does, too.
    """
    chosen, margin = exceeds(values, threshold), values - threshold
    return _decided(Decided(margin, margin.abs(), chosen, ~chosen, ties=False))


def exceeds(values: Tensor, threshold: Tensor | float) -> Tensor:
    """:func:`above` of values that are given, and not computed with errors."""
    _RULED.compared += 1
    # "not <=" rather than ">": only so does a NaN stay and spoil its row visibly.
    return ~(values < threshold) if _RULED.inclusive else ~(values <= threshold)


def rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers, the even one of two: of ``values``' shape and dtype.

    Their errors must be below a half.
    """
    nearest, edge = values.round(), values.floor() + 0.5
    other = torch.where(nearest > edge, nearest - 1, nearest + 1)
    return _decided(Decided(values, (values - edge).abs(), nearest, other, ties=True))


def largest(values: Tensor, count: int) -> Tensor:
    """The ``count`` largest along the last dimension: bool of ``values``' shape, any of ties.

    ``count`` is from 0 to the size of that dimension.
    """
    order = values.argsort(stable=True, dim=-1, descending=True)
    chosen = torch.zeros_like(values, dtype=torch.bool).scatter(-1, order[..., :count], True)
    if not 0 < count < values.shape[-1]:
        return chosen
    ranked = values.gather(-1, order)
    # As far from the edge as from what would be chosen in its place, or from what it would be
    # chosen for.
    last, next_one = ranked[..., count - 1, None], ranked[..., count, None]
    margin = torch.where(chosen, values - next_one, values - last)
    ruling = _decided(Decided(margin, margin.abs(), chosen, ~chosen, ties=True))
    # As many as before: for one that falls out the next comes in, and the other way round.
    places = torch.zeros_like(order).scatter(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
    turned = ruling != chosen
    key = torch.where(turned & ruling, -1, places)
    key = torch.where(turned & ~ruling, places.shape[-1], key)
    kept = key.argsort(stable=True, dim=-1)[..., :count]
    return torch.zeros_like(chosen).scatter(-1, kept, True)


@contextmanager
def ruled(ruling: Ruling) -> Iterator[None]:
    """Inside, in this thread, decisions are what ``ruling`` makes of them."""
    before = _RULED.ruling, _RULED.made
    _RULED.ruling, _RULED.made = ruling, 0
    try:
        yield
    finally:
        _RULED.ruling, _RULED.made = before


@contextmanager
def keeping_equal(inclusive: bool = True) -> Iterator[None]:
    """Inside, in this thread, what is equal to a threshold counts as above it."""
    before, _RULED.inclusive = _RULED.inclusive, inclusive
    try:
        yield
    finally:
        _RULED.inclusive = before


def keeps_equal() -> bool:
    """Whether what is equal to a threshold counts as above it now."""
    return _RULED.inclusive


def comparisons() -> int:
    """How often values were compared with a threshold, in this thread."""
    return _RULED.compared


def _decided(decision: Decided) -> Tensor:
    """What is chosen, or what is ruled."""
    if _RULED.ruling is None:
        return decision.chosen
    _RULED.made += 1
    return _RULED.ruling(decision, _RULED.made - 1)
