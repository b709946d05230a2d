"""One cut for all layers: which share of a model's neurons has a score below it.

PowerInfer compares every neuron's score with one threshold (arXiv 2312.12456; ``llama.cpp`` of its
engine), so how many are skipped varies by layer and token, and only their mean can be asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.statistics import Statistic, Summed
from pytest_sparsity.models import LanguageModel

#: Leading bits of a score by which it is counted: steps of 1/512 of its magnitude.
_BITS = 18
_SHIFT = 32 - _BITS
_BUCKETS = 1 << _BITS

#: Layer and what a selector reads, [R, K], to the scores of the layer's neurons, [R, I].
Scores = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Cut:
    """A threshold over all layers, and what it skips on the text that it was found on.

    Attributes:
        value: neurons with a score below it are skipped.
        shares: layer to the share of its neurons' scores below it.
        share: the mean over all neurons of the model.
    """

    value: float
    shares: Mapping[int, float]
    share: float


def counting(name: str, place: str, scores: Scores) -> Statistic:
    """Counts how often each score occurs, int64 [2^18] per layer, as a statistic of ``place``.

    Args:
        name: tells it apart from others, in caches as well.
        place: kind of site or other place whose activations the scores are made of.
        scores: makes them.
    """

    def count(where: str, read: torch.Tensor) -> torch.Tensor:
        found = scores(int(where.partition(".")[0]), read).float()
        if bool(torch.isnan(found).any()):
            raise SparsityError(
                f"the scores of neurons at {where} are not numbers (NaN) on the calibration text; "
                "the predictors are damaged, or not of this model: train or download them again"
            )
        return torch.bincount(_bucket(found).flatten(), minlength=_BUCKETS)

    def counter(model: LanguageModel) -> Callable[[str, torch.Tensor], torch.Tensor]:
        return count

    return Statistic(name, (place,), counter)


def cut_at_share(counted: Summed, level: float) -> Cut:
    """The threshold below which a share nearest to ``level`` of all scores lies.

    It is the lower edge of a bucket, so what lies below it is known exactly.  0 gives minus and 1
    plus infinity.
    """
    if level in (0, 1):
        return _cut(counted, _BUCKETS if level else 0, math.inf if level else -math.inf)
    counts = torch.stack(list(counted.totals.values())).sum(0)
    below = torch.cat(
        [counts.new_zeros(1), counts.cumsum(0)]
    )  # each bucket's lower edge, [2^18 + 1]
    wanted = level * float(below[-1])
    reached = max(1, int(torch.searchsorted(below.double(), wanted)))
    nearest = min((reached - 1, reached), key=lambda b: abs(float(below[b]) - wanted))
    return _cut(counted, nearest, _edge(nearest) if below[nearest] else -math.inf)


def cut_at_value(counted: Summed, value: float) -> Cut:
    """What a threshold that is given skips; exact for 0, else to 1/512 of its magnitude."""
    bucket = int(_bucket(torch.tensor([value]))[0]) if math.isfinite(value) else 0
    return _cut(counted, bucket, value)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Identifies tensors by name and content: 16 hex digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _cut(counted: Summed, bucket: int, value: float) -> Cut:
    shares, skipped, seen = {}, 0, 0
    for place, counts in counted.totals.items():
        below, total = int(counts[:bucket].sum()), int(counts.sum())
        shares[int(place.partition(".")[0])] = below / total
        skipped, seen = skipped + below, seen + total
    return Cut(value, shares, skipped / seen)


def _bucket(scores: torch.Tensor) -> torch.Tensor:
    """The bucket of each score, in the order of the values; both zeros are one value."""
    bits = (scores + 0.0).contiguous().view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered >> _SHIFT) + _BUCKETS // 2


def _edge(bucket: int) -> float:
    """The smallest score of a bucket."""
    ordered = torch.tensor([(bucket - _BUCKETS // 2) << _SHIFT], dtype=torch.int32)
    return float((ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)[0])
