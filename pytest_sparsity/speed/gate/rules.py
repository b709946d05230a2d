"""When a time counts as slower: rules whose error rates are measured, in pure functions.

Medians, means and rank tests of one run call every third identical program slower on a shared
machine, because the machine is slower.  The minimum is least affected by noise, and effects that
last as long as a process, such as where its memory lies, average out only over several processes.
So two contenders are compared

- side by side, by the least of each five successive rounds: the ratio must be beyond the tolerance,
  *and* its bootstrap interval beyond 1; what is not clearly fine is decided by fresh rounds in
  fresh processes, and by them alone;
- with a stored time, by the mean of the three fastest samples: beyond a tolerance that is no
  narrower than the differences between the processes it was stored from, in every one of several
  processes.

On a machine so busy that the median round takes twice as long as the fastest, only what is slower
or faster by more than that is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics import Interval, Vector, level_of_a_look
from pytest_sparsity.speed.gate.result import best

#: Rounds of the first stage, and of the second one, whose fresh rounds decide alone.
FIRST_ROUNDS, SECOND_ROUNDS = 30, 60
#: Processes of each contender in a stage, and those that must agree that a stored time is exceeded.
PROCESSES = 3
#: Processes that a stored time is the best of.
STORED_PROCESSES = 5
#: What a difference must exceed: side by side on a CPU, on a GPU, and against a stored time.
TOLERANCE_CPU, TOLERANCE_CUDA, TOLERANCE_STORED = 0.04, 0.05, 0.10
#: A stored time must be exceeded by this many times the spread of its processes, too.
SPREADS = 3.0
#: Median over best time beyond which a machine is too busy to call anything slower or faster,
#: unless by more than that.  In the decisions of docs/gate.md, beside a neighbour that is busy a
#: third of the time, it was at most 1.7.
NOISIEST = 2.0
#: Successive rounds of which the least counts.
BLOCK = 5
_RESAMPLES = 2000
_CONFIDENCE = 0.95
#: OK may be said at either of two looks, so each is held to what keeps the promise of both.
_CONFIDENCE_OK = level_of_a_look(_CONFIDENCE, 2)


@dataclass(frozen=True)
class SpeedComparison:
    """A decision and the figures it rests on.

    Attributes:
        decision: what the times say.
        reason: why, in a sentence.
        ratio: candidate over baseline, of best times; None if they were not compared.
        candidate: best seconds of one call; None if it was not timed.
        baseline: the same of what it is compared with.
        tolerance: what the ratio may exceed 1 by.
        spread: of the processes that the baseline is the best of, as a fraction; None side by side.
        rounds: samples of each that the decision rests on.
        stage: 1, or 2 for fresh data.
        p: of a regression, that so much is seen by chance, see :mod:`.many`; 1 where there is
            none, and where nobody asked.
    """

    decision: Decision
    reason: str
    ratio: Interval | None = None
    candidate: float | None = None
    baseline: float | None = None
    tolerance: float | None = None
    spread: float | None = None
    rounds: int = 0
    stage: int = 1
    p: float = 1.0


def ab_first(
    candidate: Sequence[float], baseline: Sequence[float], tolerance: float, *, seed: int = 0
) -> SpeedComparison:
    """The first stage for two contenders that ran side by side.

    A regression or an improvement seen here is a suspicion: among many kernels one is slower or
    faster by chance, so fresh rounds must confirm it (:func:`ab_second`).  OK needs no second one,
    and is held to an interval that is as wide as two looks need.

    Args:
        candidate: seconds per call, one per round.
        baseline: seconds of the same rounds.
        tolerance: fraction.
        seed: of the resamples.

    Raises:
        ValueError: the sequences differ in length, or are too short for two blocks.
    """
    return _ab(candidate, baseline, tolerance, seed, 1)


def ab_second(
    candidate: Sequence[float], baseline: Sequence[float], tolerance: float, *, seed: int = 0
) -> SpeedComparison:
    """The same rule on fresh rounds only: testing rounds twice raises false alarms."""
    return _ab(candidate, baseline, tolerance, seed, 2)


def stored(
    baseline: float,
    spread: float,
    runs: Sequence[float],
    tolerance: float,
    rounds: int = 0,
    noise: float = 1.0,
    needed: int = PROCESSES,
) -> SpeedComparison:
    """Best times of fresh processes against a stored one.

    Args:
        baseline: stored best seconds.
        spread: of the processes it is the best of, as a fraction.
        runs: best seconds of one process each; below ``needed``, slower is inconclusive and
            calls for one more.
        tolerance: least fraction that counts.
        rounds: samples of each process.
        noise: median over best of the last process.
        needed: processes that must all be slower.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("nothing was timed")
    limit = max(tolerance, SPREADS * spread)
    ratios = [run / baseline for run in runs]
    ratio = Interval(min(ratios), min(ratios), max(ratios), len(runs), note="of processes")
    if ratio.low > 1 + limit:
        if len(runs) < needed:
            decision, reason = Decision.INCONCLUSIVE, "slower, not yet confirmed"
        elif _too_busy(noise, ratio):
            decision, reason = Decision.INCONCLUSIVE, _busy(noise)
        else:
            decision, reason = Decision.REGRESSED, f"slower in each of {len(runs)} processes"
    elif ratio.low < 1 / (1 + limit):
        decision, reason = Decision.IMPROVED, "faster than stored: update the baseline"
    else:
        decision, reason = Decision.OK, "within the tolerance"
    stage = 1 if len(runs) == 1 else 2
    return SpeedComparison(
        decision, reason, ratio, min(runs), baseline, limit, spread, rounds, stage
    )


def not_comparable(reason: str) -> SpeedComparison:
    """The comparison of times that are not of the same thing, and so cannot be compared."""
    return SpeedComparison(Decision.NOT_COMPARABLE, reason)


def block_minimum_ratio(
    candidate: Sequence[float],
    baseline: Sequence[float],
    *,
    seed: int = 0,
    confidence: float = _CONFIDENCE,
) -> Interval:
    """Median ratio of block minima, with its paired bootstrap interval.

    The machine hardly changes within a block of five successive rounds, and the least of five
    samples is hardly ever disturbed.  A few moments in which the machine is faster than ever, which
    would decide the ratio of the two fastest times, are in one block or two.

    Raises:
        ValueError: as for :func:`block_ratios`.
    """
    ratios = block_ratios(candidate, baseline)
    drawn = np.random.default_rng(seed).integers(0, ratios.size, (_RESAMPLES, ratios.size))
    medians = np.median(ratios[drawn], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    rounds = len(candidate)
    return Interval(float(np.median(ratios)), float(low), float(high), rounds, confidence)


def block_ratios(candidate: Sequence[float], baseline: Sequence[float]) -> Vector:
    """Ratio of the least times of each block of successive rounds.

    Raises:
        ValueError: the sequences differ in length, are too short for two blocks, or have times
            that are not positive.
    """
    above, below = np.asarray(candidate, np.float64), np.asarray(baseline, np.float64)
    blocks = above.size // BLOCK
    if above.shape != below.shape or blocks < 2:
        raise ValueError(
            f"both sides must have the same rounds, at least {2 * BLOCK}, not {above.size} and "
            f"{below.size}"
        )
    if not (np.isfinite(above).all() and np.isfinite(below).all()) or min(*above, *below) <= 0:
        raise ValueError("times must be finite and positive")
    numerator, denominator = (
        x[: blocks * BLOCK].reshape(blocks, BLOCK).min(1) for x in (above, below)
    )
    return np.asarray(numerator / denominator)


def _ab(
    candidate: Sequence[float], baseline: Sequence[float], tolerance: float, seed: int, stage: int
) -> SpeedComparison:
    ratio = block_minimum_ratio(candidate, baseline, seed=seed)
    wide = block_minimum_ratio(candidate, baseline, seed=seed, confidence=_CONFIDENCE_OK)
    value = ratio.estimate
    noise = max(float(np.median(series)) / best(series) for series in (candidate, baseline))
    if value > 1 + tolerance and ratio.low > 1:
        decision, reason = Decision.REGRESSED, "slower"
    elif value < 1 / (1 + tolerance) and ratio.high < 1:
        decision, reason = Decision.IMPROVED, "faster"
    elif wide.high < 1 + tolerance:  # no more than that can have been lost
        decision, reason = Decision.OK, "within the tolerance"
    else:
        decision, reason = Decision.INCONCLUSIVE, "the rounds do not decide"
    if decision in (Decision.REGRESSED, Decision.IMPROVED) and _too_busy(noise, ratio):
        decision, reason = Decision.INCONCLUSIVE, _busy(noise)
    return SpeedComparison(
        decision,
        reason,
        ratio,
        best(candidate),
        best(baseline),
        tolerance,
        rounds=len(candidate),
        stage=stage,
    )


def _too_busy(noise: float, ratio: Interval) -> bool:
    """Whether the difference is no larger than the machine's own variation between rounds."""
    return noise > NOISIEST and ratio.low < noise and ratio.high > 1 / noise


def _busy(noise: float) -> str:
    return f"the machine is too busy: the median round took {noise:.1f} times the fastest"
