"""Times runs of microseconds to milliseconds from cold caches, and compares their best times.

A decoding step reads every weight of a model once, so a layer hardly finds its weights in the
caches, and times from warm caches are not those of decoding.
At this scale a single interrupt outweighs the work, so the statistic is the tenth percentile
of many interleaved runs: what the machine does when nothing disturbs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.speed.interleaved import interleave

#: Read before each timed run: twice the last-level cache of most processors.
FLUSHED_BYTES = 64 << 20
QUANTILE = 0.1
_RESAMPLES = 2000


@dataclass(frozen=True)
class Spread:
    """How one contender's times are spread, in seconds.

    Attributes:
        p10: what is compared.
        median: on a quiet machine hardly more than ``p10``.
        p90: the disturbed runs.
    """

    p10: float
    median: float
    p90: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of these times."""
        p10, median, p90 = np.quantile(seconds, (QUANTILE, 0.5, 0.9))
        return cls(float(p10), float(median), float(p90))


def time_cold(
    contenders: Mapping[str, Callable[[], object]],
    rehearsals: Mapping[str, Callable[[], object]],
    rounds: int,
    seed: int,
    on_done: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Like :func:`interleave`, with operands that are in no cache.

    Before each timed run the CPU's caches are flushed, and then the contender's rehearsal runs.
    Without it the interpreter and the libraries would be cold too, some 30 microseconds that a
    decoding step, which calls the same code for every layer, does not have.

    Args:
        contenders: by name.
        rehearsals: for each contender, the same code on small operands of its own.
        rounds: timed runs of each.
        seed: of the order.
        on_done: called after each timed run.
    """
    buffer = torch.ones(FLUSHED_BYTES // 4)

    def prepare(name: str) -> None:
        buffer.sum()
        rehearsals[name]()

    return interleave(contenders, rounds, seed, on_done, prepare)


def p10_ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int, confidence: float = 0.95
) -> Interval:
    """Ratio of the tenth percentiles of two contenders' times, with its interval.

    The interval is the percentile bootstrap over rounds; a round is drawn with the times of
    both, so that what slowed down both stays together.

    Args:
        numerator: seconds, one per round.
        denominator: seconds of the same rounds.
        seed: of the resamples.
        confidence: in (0, 1).

    Raises:
        ValueError: the sequences differ in length or have fewer than ten rounds, too few to
            have a tenth percentile.
    """
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if above.shape != below.shape or above.size < 10:
        raise ValueError(
            "numerator and denominator must be of the same rounds, at least ten, not "
            f"{above.size} and {below.size}"
        )
    drawn = np.random.default_rng(seed).integers(0, above.size, (_RESAMPLES, above.size))
    ratios = np.quantile(above[drawn], QUANTILE, 1) / np.quantile(below[drawn], QUANTILE, 1)
    low, high = np.quantile(ratios, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(
        estimate=float(np.quantile(above, QUANTILE) / np.quantile(below, QUANTILE)),
        low=float(low),
        high=float(high),
        n=above.size,
        confidence=confidence,
    )


def describe_noise(times: Mapping[str, Sequence[float]]) -> str:
    """How disturbed the run was: how far medians and p90s are above the p10s, on average."""
    spreads = [Spread.of(seconds) for seconds in times.values()]
    median = float(np.mean([spread.median / spread.p10 for spread in spreads]))
    tail = float(np.mean([spread.p90 / spread.p10 for spread in spreads]))
    kind = "quiet" if median < 1.1 else "noisy" if median < 1.5 else "very noisy"
    return f"{kind}: medians {median:.2f} times p10, p90 {tail:.2f} times"
