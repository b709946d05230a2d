"""Which weights are kept: the shares and patterns that all pruning methods have in common."""

from __future__ import annotations

import math
from fractions import Fraction

from torch import Tensor


def keep_largest(scores: Tensor, dropped: int) -> Tensor:
    """Where the last dimension is not among its ``dropped`` smallest: bool, shape of ``scores``.

    Exactly so many are dropped, also where scores are tied, as 16-bit weights often are: of
    equal ones the first stay, as in ``reference.semi_structured``.
    """
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    kept = order[..., : scores.shape[-1] - dropped]
    return scores.new_zeros(scores.shape).bool().scatter_(-1, kept, True)


def count_of(share: float, total: int) -> int:
    """How many of ``total`` a share is, rounded down as the published code does.

    The share is meant as it is written: 0.29 of 100 is 29, although 0.29 * 100 < 29.
    """
    return math.floor(Fraction(str(share)) * total)


def keep_share(scores: Tensor, share: float) -> Tensor:
    """Where all but the ``share`` smallest ``scores`` are, over the whole tensor: bool."""
    flat = scores.reshape(1, -1)
    return keep_largest(flat, count_of(share, flat.shape[1])).view(scores.shape)


def keep_share_of_rows(scores: Tensor, share: float) -> Tensor:
    """Where all but the ``share`` smallest of each row of ``scores`` [N, K] are: bool."""
    return keep_largest(scores, count_of(share, scores.shape[1]))


def keep_pattern(scores: Tensor, pattern: tuple[int, int]) -> Tensor:
    """Where the n largest of every m consecutive ``scores`` [N, K] of a row are: bool.

    Args:
        scores: K is a multiple of m.
        pattern: (n, m).
    """
    n, m = pattern
    return keep_largest(scores.reshape(scores.shape[0], -1, m), m - n).view(scores.shape)
