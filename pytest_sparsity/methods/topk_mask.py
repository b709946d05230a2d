"""Selection by exact counts: so many of the largest, whatever their values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy
import torch

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def dropped_count(level: float, width: int) -> int:
    """How many of ``width`` a level in [0, 1] drops: the nearest number, halves up.

    The level is meant as it is written: 0.9 of 10 are 9, where the published
    int(10 * (1 - 0.9)) keeps none.
    """
    return math.floor(Fraction(repr(float(level))) * width + Fraction(1, 2))


def keep_largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Mark the ``count`` largest scores along the last axis, exactly so many.

    Of equal ones the first are kept.  NaN counts as larger than everything.

    Args:
        scores: [..., K], of any float type; not negative.
        count: from 0 to K.

    Returns:
        Boolean [..., K].
    """
    width = scores.shape[-1]
    if count in (0, width):
        return torch.full_like(scores, count == width, dtype=torch.bool)
    scores = scores.detach().float()
    if scores.device.type == "cpu" and (found := _without_ties(scores, count)) is not None:
        return found
    ranked = scores.nan_to_num(nan=math.inf, posinf=math.inf)
    least = _kth_smallest(ranked, width - count)
    largest = ranked >= least
    if int(largest.sum()) == count * (largest.numel() // width):
        return largest  # no token has equal ones of which some must go
    larger, equal = ranked > least, ranked == least
    room = count - larger.sum(-1, keepdim=True)
    return larger | (equal & (equal.cumsum(-1) <= room))


def _without_ties(scores: torch.Tensor, count: int) -> torch.Tensor | None:
    """:func:`keep_largest` in a third of its time; None if some of equal scores must go."""
    values = scores.numpy()
    width = values.shape[-1]
    # numpy sorts NaN last, and calls it less than nothing: it is kept, as it should be.
    smaller = values < numpy.partition(values, width - count, axis=-1)[..., width - count, None]
    if numpy.count_nonzero(smaller) != (width - count) * (values.size // width):
        return None
    return torch.from_numpy(~smaller)


def _kth_smallest(values: torch.Tensor, k: int) -> torch.Tensor:
    """The value before which ``k`` smaller or equal ones come, [..., 1] of float32 [..., K]."""
    if values.device.type != "cpu":
        return values.kthvalue(k + 1, dim=-1, keepdim=True).values
    # numpy's selection takes a tenth of torch's time on a CPU.
    return torch.from_numpy(numpy.partition(values.numpy(), k, axis=-1)[..., k, None])


def kept(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """X where ``keep``, else 0, even in place of NaN; a new contiguous tensor.

    Args:
        x: [..., K], float.
        keep: boolean, of the same shape or expanded to it.
    """
    if x.requires_grad or x.device.type != "cpu":
        return torch.where(keep, x, x.new_zeros(())).contiguous()
    # On a CPU where() branches on every element and takes twenty times as long as a mask of bits.
    integer = _INTEGERS[x.element_size()]
    return (x.contiguous().view(integer) & -keep.to(integer)).view(x.dtype)
