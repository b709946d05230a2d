"""Times contenders side by side, and says how their times compare.

A machine changes speed from minute to minute (clocks, neighbours, temperature), so contenders that
are timed one after the other meet different speeds.  Interleaved, all of them run within seconds of
each other, round after round, and each round is a fair comparison.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics import Interval


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    seed: int,
    on_done: Callable[[], None] | None = None,
    prepare: Callable[[str], object] | None = None,
) -> dict[str, list[float]]:
    """Time every contender once per round, in an order shuffled anew each round.

    Each one first runs once untimed, to fill caches and compile what is compiled on demand.
    The garbage collector is off while the clock runs, and collects between rounds.

    Args:
        contenders: by name; one returns when its work is done, so what is queued on an
            accelerator is waited for.
        rounds: timed runs of each.
        seed: of the order.
        on_done: called after each timed run, while the clock is stopped.
        prepare: called with a contender's name before each of its timed runs, while the
            clock is stopped.

    Returns:
        Per contender its seconds, one per round: entry ``i`` of all of them is from round ``i``.

    Raises:
        ValueError: there is nothing to time.
    """
    if not contenders or rounds < 1:
        raise ValueError(f"nothing to time: {len(contenders)} contenders, {rounds} rounds")
    for run in contenders.values():
        run()
    shuffled = random.Random(seed)
    order = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with _no_garbage_collection():
        for _ in range(rounds):
            gc.collect()
            shuffled.shuffle(order)
            for name in order:
                run = contenders[name]
                if prepare is not None:
                    prepare(name)
                started = perf_counter()
                run()
                seconds[name].append(perf_counter() - started)
                if on_done is not None:
                    on_done()
    return seconds


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, confidence: float = 0.95
) -> Interval:
    """Median over rounds of numerator / denominator, with its interval.

    Made for runs of a tenth of a second and more, in which a round is itself the average of
    many interruptions and slow phases last longer than a round: those cancel within it, and
    the median passes over the few rounds that a neighbour spoiled on one side only.  Runs of
    milliseconds, where a single interruption outweighs the work, need the best few of many
    samples instead.

    The interval is between two order statistics of the rounds' ratios (the inversion of the
    sign test; Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2).  It
    assumes nothing about how times are distributed, holds for as few rounds as six, and
    draws no samples; a bootstrap of the median promises more than it keeps for so few.

    Args:
        numerator: one value per round: seconds, or a difference of seconds.
        denominator: seconds of the same rounds.
        confidence: in (0, 1).

    Returns:
        An interval without limits when the rounds are too few for ``confidence``.

    Raises:
        ValueError: the sequences are empty or differ in length, a value is not finite, or a
            denominator is not positive.
    """
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if above.shape != below.shape or not above.size:
        raise ValueError(
            "numerator and denominator must be of the same rounds, at least one, not "
            f"{above.size} and {below.size}"
        )
    if not (np.isfinite(above).all() and np.isfinite(below).all() and (below > 0).all()):
        raise ValueError("times must be finite, and those of the denominator positive")
    ratios = above / below
    limits = stats.quantile_test(ratios, p=0.5).confidence_interval(confidence)
    known = not (math.isnan(limits.low) or math.isnan(limits.high))
    return Interval(
        estimate=float(np.median(ratios)),
        low=float(limits.low) if known else -math.inf,
        high=float(limits.high) if known else math.inf,
        n=ratios.size,
        confidence=confidence,
        note="" if known else f"no limits: {ratios.size} rounds are too few",
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # a collection between rounds then looks at what the rounds left, and at no more
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
