"""Hot sets, from how often neurons are active: PowerInfer, arXiv 2312.12456, section 2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch

from pytest_sparsity.methods.topk_mask import dropped_count

#: Share of all activations that the hot neurons account for, in the paper's figures.  The solver
#: has no such rule: it takes what fits, see :func:`hot_blocks`.
HOT = 0.8

#: Neurons of a layer that PowerInfer's solver places together.
PLACED = 256


def by_frequency(counts: torch.Tensor) -> torch.Tensor:
    """Neurons from the most to the least often active, int64 [I]; of equal ones the first."""
    return torch.argsort(counts, descending=True, stable=True)


def hot_count(counts: torch.Tensor, share: float = HOT) -> int:
    """Size of the smallest set that accounts for ``share`` of all activations in [I] counts."""
    reached = counts.sort(descending=True).values.cumsum(0)
    needed = math.ceil(Fraction(repr(share)) * int(counts.sum()))
    return int((reached < needed).sum()) + 1 if needed else 0


def hot_mask(counts: torch.Tensor, hot: int) -> torch.Tensor:
    """The ``hot`` most often active neurons, boolean [I]; its complement are the cold ones."""
    mask = torch.zeros(len(counts), dtype=torch.bool)
    mask[by_frequency(counts)[:hot]] = True
    return mask


def hottest(counts: Mapping[int, torch.Tensor], hot: int) -> dict[int, torch.Tensor]:
    """The ``hot`` most often active neurons of a model: layer to boolean [I].

    Of equally active ones those of the first layers; layers have as many as are among them.
    """
    whole = hot_mask(torch.cat(list(counts.values())), hot)
    return dict(zip(counts, whole.split([len(own) for own in counts.values()]), strict=True))  # type: ignore[no-untyped-call]


def hot_blocks(
    counts: Mapping[int, torch.Tensor], capacity: int, block: int = PLACED
) -> dict[int, torch.Tensor]:
    """The hot set that PowerInfer's solver places: layer to boolean [I].

    Every layer's neurons are sorted by how often they are active and cut into blocks; the blocks
    with the most activations are taken until ``capacity`` neurons are (``powerinfer/solver.py``
    of its repository, whose integer program has this optimum where no layer must have a least
    number).  A last block that is not full is ranked by its mean.

    Args:
        counts: layer to how often each of its neurons is active, [I].
        capacity: most neurons that fit.
        block: neurons of one layer that are placed together.
    """
    blocks = [
        (float(counts[layer][some].sum()) / len(some), layer, some)
        for layer in counts
        for some in by_frequency(counts[layer]).split(block)  # type: ignore[no-untyped-call]
    ]
    masks = {layer: torch.zeros(len(own), dtype=torch.bool) for layer, own in counts.items()}
    room = capacity
    for _, layer, some in sorted(blocks, key=lambda each: -each[0]):  # stable: first layers first
        if len(some) <= room:
            masks[layer][some] = True
            room -= len(some)
    return masks


def curve(counts: torch.Tensor, shares: Sequence[float]) -> tuple[float, ...]:
    """Share of activations held by the most active ``shares`` of the neurons.

    Between whole neurons the line is straight; 0 everywhere if nothing was ever active.
    """
    reached = torch.cat([counts.new_zeros(1), counts.sort(descending=True).values.cumsum(0)])
    total = int(reached[-1])
    found = []
    for share in shares:
        place = share * len(counts)
        below = min(int(place), len(counts) - 1)
        low, high = int(reached[below]), int(reached[below + 1])
        found.append((low + (place - below) * (high - low)) / total if total else 0.0)
    return tuple(found)


def top_overlap(one: torch.Tensor, other: torch.Tensor, share: float) -> float:
    """How much of the top ``share`` of one corpus is in that of another, in [0, 1].

    Two random sets overlap by ``share``.
    """
    size = max(1, dropped_count(share, len(one)))
    return int((hot_mask(one, size) & hot_mask(other, size)).sum()) / size


def rank_correlation(one: torch.Tensor, other: torch.Tensor) -> float | None:
    """Spearman's correlation of two [I] counts; None if all neurons of one are equal."""
    from scipy.stats import spearmanr

    if int(one.min()) == int(one.max()) or int(other.min()) == int(other.max()):
        return None
    return float(spearmanr(one.numpy(), other.numpy()).statistic)
