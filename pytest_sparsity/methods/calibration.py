"""Activation statistics of the dense model on held-in text, exact and in one streaming pass."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import PrefillPolicy, all_dense
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import run_documents
from pytest_sparsity.progress import Progress, silent

_BUCKETS = 1 << 15


def magnitude_quantiles(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    levels: Iterable[float],
    prefill: PrefillPolicy,
    progress: Progress = silent,
) -> dict[float, dict[str, float]]:
    """Exact quantiles of |x| at every site of the dense model.

    The threshold of level p is the smallest observed magnitude t such that at least a
    fraction p of the activations has |x| <= t; level 0 gives t = 0, which drops nothing
    but exact zeros.  It is a quantile of |x|, not the symmetric shortcut icdf(0.5 + p/2)
    of TEAL's published code, which is wrong for skewed activations.

    Magnitudes are counted by their bit patterns, whose order is the order of the values:
    16-bit types have 2^15 patterns and need one pass over the tokens, float32 needs a
    second one to resolve the low half.  Nothing is sampled or binned.

    Args:
        model: dense, nothing attached.
        tokens: documents, int64 [T] each.
        levels: target fractions in [0, 1].
        prefill: rows that it keeps dense are not counted.
        progress: told one unit per document and pass.

    Returns:
        level -> site -> threshold, representable in the model's dtype.

    Raises:
        SparsityError: an activation is not finite, or ``prefill`` keeps every row dense.
    """
    wanted = sorted(set(levels))
    wide = model.dtype == torch.float32
    with progress(f"calibrate {model.name}", len(tokens) * (2 if wide else 1), "document") as task:

        def count(chosen: Mapping[str, Sequence[int]] | None) -> _Counts:
            counts = _Counts(chosen)
            with observe(model, prefill, counts.add, share=True) as visited_as:
                run_documents(model, tokens, on_done=task.advance)
            counts.visited_as.update(visited_as)
            return counts

        high = count(None)
        if not all(bool(counted.any()) for counted in high.table.values()):
            raise all_dense(prefill, "calibration text")
        found = {site: _order_statistics(c, wanted) for site, c in high.table.items()}
        if wide:
            buckets = {site: [bucket for bucket, _ in f] for site, f in found.items()}
            low = count(buckets)
    result: dict[float, dict[str, float]] = {}
    for index, level in enumerate(wanted):
        result[level] = {}
        for site, first in high.visited_as.items():
            pattern, rank = found[first][index]
            if wide:
                inside = _order_statistic(low.table[first][buckets[first].index(pattern)], rank)
                pattern = (pattern << 16) | inside[0]
            result[level][site] = 0.0 if level == 0 else _value(pattern, model.dtype)
    return result


class _Counts:
    """How often each bit pattern of |x| occurs, per site.

    Without ``chosen`` the leading 16 bits are counted: table[site] is [2^15].  With it,
    the trailing 16 bits of the values whose leading bits are chosen: [len(chosen), 2^16].
    """

    def __init__(self, chosen: Mapping[str, Sequence[int]] | None) -> None:
        self.table: dict[str, torch.Tensor] = {}
        self.visited_as: dict[str, str] = {}
        self._chosen = chosen
        self._lock = threading.Lock()

    def add(self, site: str, x: torch.Tensor) -> None:
        if not bool(torch.isfinite(x).all()):
            raise SparsityError(
                f"the dense model's activations at site {site} contain NaN or infinity on the "
                "calibration text; the weights are damaged or their dtype overflows: try "
                "--sparsity-dtype float32"
            )
        bits = x.contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int16)
        bits = bits.flatten().to(torch.int32) & (0x7FFFFFFF if x.dtype == torch.float32 else 0x7FFF)
        if x.dtype != torch.float32:
            counted = torch.bincount(bits, minlength=_BUCKETS)
        elif self._chosen is None:
            counted = torch.bincount(bits >> 16, minlength=_BUCKETS)
        else:
            leading = bits >> 16
            counted = torch.stack(
                [
                    torch.bincount(bits[leading == bucket] & 0xFFFF, minlength=1 << 16)
                    for bucket in self._chosen[site]
                ]
            )
        counted = counted.cpu()
        with self._lock:
            self.table[site] = self.table[site] + counted if site in self.table else counted


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


def _value(pattern: int, dtype: torch.dtype) -> float:
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    return float(torch.tensor([pattern], dtype=integer).view(dtype)[0])
