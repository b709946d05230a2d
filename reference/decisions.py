"""Decisions inside a definition: which values are above a threshold, which are the largest.

A kernel computes what it decides by with rounding, so a value on the edge may fall to either side,
and nothing else may.  A definition that decides by these functions lets the bound that is computed
from it (``stochastic``) know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: From how far values are from the edge, the decision, how many were made before, and whether
#: values on the very edge may fall to either side: what counts.
Ruling = Callable[[Tensor, Tensor, int, bool], Tensor]


class _Ruled(threading.local):
    ruling: Ruling | None = None
    made: int = 0


_RULED = _Ruled()


def above(values: Tensor, threshold: Tensor | float) -> Tensor:
    """Whether ``values`` exceed ``threshold``: bool of their shape; NaN does."""
    return _decided(values - threshold, ~(values <= threshold))


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
    ruling = _decided(torch.where(chosen, values - next_one, values - last), chosen, ties=True)
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


def _decided(margin: Tensor, decision: Tensor, ties: bool = False) -> Tensor:
    """``decision``, or what is ruled; ``margin`` is how far each is from the edge."""
    if _RULED.ruling is None:
        return decision
    _RULED.made += 1
    return _RULED.ruling(margin, decision, _RULED.made - 1, ties)
