"""How a metric of another engine is compared over pairs of items, and how much is tolerated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_sparsity.core.statistics import (
    Interval,
    influence,
    mcnemar,
    paired_mean,
    paired_proportion,
)
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.evaluation.logged_samples import LIKELIHOOD
from pytest_sparsity.sweep.changes import ACCURACY_TOLERANCE, PERPLEXITY_TOLERANCE, Change
from pytest_sparsity.sweep.comparison import through
from pytest_sparsity.sweep.evidence import beyond

#: Nats per byte by which a text may be less likely: what raises perplexity by the tolerance for
#: it, where a token has four bytes, as in English.
BYTE_TOLERANCE = math.log1p(PERPLEXITY_TOLERANCE) / 4
#: A difference of two shares.
_SHARES = (-1.0, 1.0)


@dataclass(frozen=True)
class ItemChange:
    """A change of a mean over items.

    Attributes:
        change: as it is told.
        worse: by how much each item is worse, in the unit of ``limit``.
        lengths: what the sum of ``worse`` is divided by, per item; 1 each if None.
        limit: how much of the mean is tolerated.
        counted: whether items are right or wrong.
    """

    change: Change
    worse: Sequence[float]
    lengths: Sequence[float] | None
    limit: float
    counted: bool = False

    def evidence(self, id: str, task: str, items: Sequence[str]) -> Evidence:
        """That more is lost than tolerated, in items of a task that other metrics share."""
        bounds = _SHARES if self.counted else None
        of_items = influence(self.worse, self.lengths, units=list(items), bounds=bounds)
        return beyond(id, task, of_items, self.limit, counted=self.counted)


def change_of_texts(
    metric: str,
    before: Sequence[tuple[float, ...]],
    now: Sequence[tuple[float, ...]],
    seed: int,
) -> ItemChange:
    """Of the likelihood of whole texts, which has one unit for all tokenizers.

    Args:
        metric: in ``SUMMED``.
        before: log-likelihood in nats and length, per text.
        now: the same of the second run, of the same lengths.
        seed: of the bootstrap.
    """
    lengths = [length for _, length in before]
    less = [a - b for (a, _), (b, _) in zip(before, now, strict=True)]
    found = paired_mean(less, lengths, seed=seed)
    was, is_now = (-math.fsum(a for a, _ in side) / math.fsum(lengths) for side in (before, now))
    limit = math.log1p(PERPLEXITY_TOLERANCE) if metric == "word_perplexity" else BYTE_TOLERANCE
    if metric == "bits_per_byte":
        bits = 1 / math.log(2)
        change = through(lambda nats: nats * bits, found)
        text = f"bits per byte {change:+.4f} over {change.n} texts, tolerated {limit * bits:.4f}"
        told = Change(change, limit * bits, _noted(text, change), was * bits, is_now * bits)
    else:
        change, share = through(_expm1, found), math.expm1(limit)
        text = f"{metric} {_percent(change)} % over {change.n} texts, tolerated {100 * share:.2g} %"
        told = Change(change, share, _noted(text, change), _exp(was), _exp(is_now))
    return ItemChange(told, less, lengths, limit)


def change_of_scores(
    metric: str, before: Sequence[float], now: Sequence[float], lower: bool, seed: int
) -> ItemChange:
    """Of numbers, one per item.

    Args:
        metric: its name.
        before: per item.
        now: the same of the second run.
        lower: whether less is better.
        seed: of the bootstrap.
    """
    n, values = len(before), {*before, *now}
    was, is_now = math.fsum(before) / n, math.fsum(now) / n
    if metric == LIKELIHOOD:
        less = [a - b for a, b in zip(before, now, strict=True)]
        change = through(_expm1, paired_mean(less, seed=seed))
        tolerated = f"tolerated {100 * PERPLEXITY_TOLERANCE:g} %"
        text = _noted(f"perplexity {_percent(change)} % over {n} items, {tolerated}", change)
        told = Change(change, PERPLEXITY_TOLERANCE, text, _exp(-was), _exp(-is_now))
        return ItemChange(told, less, None, math.log1p(PERPLEXITY_TOLERANCE))
    worse = [(b - a) if lower else (a - b) for a, b in zip(before, now, strict=True)]
    if values <= {0.0, 1.0}:
        right = [[(value == 1) != lower for value in side] for side in (before, now)]
        change, p_value = paired_proportion(*right), mcnemar(*right)
        text = (
            f"{metric} worse by {_percent(change)} points over {n} items, {worse.count(1)} lost "
            f"and {worse.count(-1)} won, McNemar p = {p_value:.2g}, tolerated "
            f"{100 * ACCURACY_TOLERANCE:g} points"
        )
        told = Change(change, ACCURACY_TOLERANCE, _noted(text, change), was, is_now, p_value)
        return ItemChange(told, worse, None, ACCURACY_TOLERANCE, counted=True)
    share = min(values) >= 0 and max(values) <= 1
    change = paired_mean(worse, seed=seed, bounds=_SHARES if share else None)
    tolerance = ACCURACY_TOLERANCE if share else 0.0
    text = f"{metric} worse by {change:+.4g} over {n} items, tolerated {tolerance:g}"
    return ItemChange(
        Change(change, tolerance, _noted(text, change), was, is_now), worse, None, tolerance
    )


def _noted(text: str, change: Interval) -> str:
    return f"{text}; {change.note}" if change.note else text


def _exp(value: float) -> float:
    """Of a likelihood that may be that of a long text."""
    return math.exp(value) if value < 700 else math.inf


def _expm1(value: float) -> float:
    return math.expm1(value) if value < 700 else math.inf


def _percent(change: Interval) -> str:
    return f"{100 * change.estimate:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
