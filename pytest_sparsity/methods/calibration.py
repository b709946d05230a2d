"""Exact quantiles of the dense model's activations on held-in text, in streaming passes."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import torch

from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.gated import ACTIVATED
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.statistics import (
    ALL_SITES,
    Counter,
    Statistic,
    Summed,
    collect,
    register,
)
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import run_documents

_BUCKETS = 1 << 15

Quantiles = dict[float, dict[str, float]]


def _count_magnitudes(model: LanguageModel) -> Counter:
    """Counts how often each leading 16 bits of |x| occur: [2^15]."""

    def count(place: str, x: torch.Tensor) -> torch.Tensor:
        bits = _bits(x)
        return torch.bincount(bits >> 16 if _wide(x.dtype) else bits, minlength=_BUCKETS)

    return count


#: |x| at every site, of experts together and of each, and |act(W_gate x)|, by the leading 16 bits.
MAGNITUDES = register(Statistic("magnitudes", ALL_SITES, _count_magnitudes))
MAGNITUDES_OF_EACH = register(
    Statistic("magnitudes_of_each", ALL_SITES, _count_magnitudes, pooled=False)
)
ACTIVATED_MAGNITUDES = register(Statistic("activated_magnitudes", (ACTIVATED,), _count_magnitudes))


def magnitude_quantiles(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    levels: Iterable[float],
    prefill: PrefillPolicy,
    progress: Progress = silent,
) -> Quantiles:
    """Exact quantiles of |x| at every site of the dense model: level -> site -> threshold.

    See :func:`exact_quantiles`; this one makes all passes itself.

    Raises:
        SparsityError: an activation is not finite, or ``prefill`` keeps every row dense.
    """
    name = MAGNITUDES.name
    counts = {name: collect(model, tokens, prefill, [MAGNITUDES], progress)[name]}
    return exact_quantiles(model, tokens, levels, prefill, counts, progress)[name]


def exact_quantiles(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    levels: Iterable[float],
    prefill: PrefillPolicy,
    counts: Mapping[str, Summed],
    progress: Progress = silent,
) -> dict[str, Quantiles]:
    """Exact quantiles of magnitudes that have been counted on the same text.

    The threshold of level p is the smallest observed magnitude t such that at least a
    fraction p of the activations has |x| <= t; level 0 gives t = 0, which drops nothing
    but exact zeros.  It is a quantile of |x|, not the symmetric shortcut icdf(0.5 + p/2)
    of TEAL's published code, which is wrong for skewed activations.

    Magnitudes are counted by their bit patterns, whose order is the order of the values:
    16-bit types have 2^15 patterns, and the counts tell everything.  float32 needs a pass
    over the text to resolve the low half.  Nothing is sampled or binned.

    Args:
        model: dense, nothing attached.
        tokens: documents, int64 [T] each.
        levels: target fractions in [0, 1].
        prefill: rows that it keeps dense are not counted.
        counts: ``MAGNITUDES`` or ``ACTIVATED_MAGNITUDES`` or both, or ``MAGNITUDES_OF_EACH``, by
            name.
        progress: advances by one per document, if a pass is needed.

    Returns:
        By the same names: level -> place -> threshold, representable in the model's dtype.
    """
    wanted = sorted(set(levels))
    found = {
        first: _order_statistics(counted, wanted)
        for summed in counts.values()
        for first, counted in _once(summed).items()
    }
    if _wide(model.dtype):
        buckets = {first: [bucket for bucket, _ in each] for first, each in found.items()}
        pooled = MAGNITUDES_OF_EACH.name not in counts
        low = _low_halves(model, tokens, prefill, buckets, pooled, progress)
        for first, each in found.items():
            for index, (bucket, rank) in enumerate(each):
                inside, _ = _order_statistic(low[first][buckets[first].index(bucket)], rank)
                each[index] = (bucket << 16) | inside, rank
    return {
        name: {
            level: {
                place: 0.0 if level == 0 else _value(found[first][index][0], model.dtype)
                for place, first in summed.same_as.items()
            }
            for index, level in enumerate(wanted)
        }
        for name, summed in counts.items()
    }


class Distribution:
    """The distribution of |x| in one place, from its counts [2^15].

    It is exact for 16-bit types.  For float32 the magnitudes within a bucket, which is 1/128
    of them wide, are taken as evenly spread.

    Attributes:
        total: activations counted.
        zeros: fraction of them that is zero.
    """

    total: int
    zeros: float

    def __init__(self, counts: torch.Tensor, dtype: torch.dtype) -> None:
        self._below = counts.cumsum(0)
        self._dtype = dtype
        self.total = int(self._below[-1])
        self.zeros = int(counts[0]) / self.total

    def quantile(self, level: float) -> float:
        """The magnitude at or below which a fraction ``level`` in [0, 1] lies; 0 for 0."""
        if level == 0:
            return 0.0
        rank = max(1, math.ceil(Fraction(repr(level)) * self.total))
        bucket = int(torch.searchsorted(self._below, rank))
        if not _wide(self._dtype):
            return _value(bucket, self._dtype)
        before = int(self._below[bucket - 1]) if bucket else 0
        inside = (rank - before) / (int(self._below[bucket]) - before)
        # The last pattern of the bucket, and not the first of the next: that may be infinity.
        return _value((bucket << 16) + int(inside * 0xFFFF) if bucket else 0, self._dtype)


def _once(summed: Summed) -> dict[str, torch.Tensor]:
    """The sums of the places that are the first to read their tensor."""
    return {place: summed.totals[place] for place in dict.fromkeys(summed.same_as.values())}


def _low_halves(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    buckets: Mapping[str, Sequence[int]],
    pooled: bool,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Per place, how often each trailing 16 bits occur in its buckets: [buckets, 2^16]."""
    table: dict[str, torch.Tensor] = {}
    lock = threading.Lock()

    def visit(place: str, x: torch.Tensor) -> None:
        if place not in buckets:
            return
        bits = _bits(x)
        leading = bits >> 16
        counted = torch.stack(
            [
                torch.bincount(bits[leading == bucket] & 0xFFFF, minlength=1 << 16)
                for bucket in buckets[place]
            ]
        ).cpu()
        with lock:
            table[place] = table[place] + counted if place in table else counted

    also = [ACTIVATED] if any(place.endswith(f".{ACTIVATED}") for place in buckets) else []
    with (
        progress(f"calibrate {model.name} exactly", len(tokens), "document") as task,
        observe(model, prefill, visit, also=also, pooled=pooled),
    ):
        run_documents(model, tokens, on_done=task.advance)
    return table


def _order_statistics(counts: torch.Tensor, levels: Sequence[float]) -> list[tuple[int, int]]:
    total = int(counts.sum())
    # 0.55 * 100 is more than 55 in floating point, and its ceiling 56: the level is meant
    # as it is written.
    ranks = [math.ceil(Fraction(str(level)) * total) for level in levels]
    return [_order_statistic(counts, max(1, rank)) for rank in ranks]


def _order_statistic(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """The bucket that holds the ``rank``-th smallest value (from 1), and its rank inside."""
    cumulative = counts.cumsum(0)
    bucket = int(torch.searchsorted(cumulative, rank))
    before = int(cumulative[bucket - 1]) if bucket else 0
    return bucket, rank - before


def _wide(dtype: torch.dtype) -> bool:
    return dtype == torch.float32


def _bits(x: torch.Tensor) -> torch.Tensor:
    """The bit patterns of |x|, int32, flat."""
    wide = _wide(x.dtype)
    bits = x.contiguous().view(torch.int32 if wide else torch.int16)
    return bits.flatten().to(torch.int32) & (0x7FFFFFFF if wide else 0x7FFF)


def _value(pattern: int, dtype: torch.dtype) -> float:
    integer = torch.int32 if _wide(dtype) else torch.int16
    return float(torch.tensor([pattern], dtype=integer).view(dtype)[0])
