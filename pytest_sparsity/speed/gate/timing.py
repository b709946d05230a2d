"""Interleaved rounds of calibrated samples; what was measured is kept if it is interrupted."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pytest_sparsity.speed.gate.processes import WorkerError
from pytest_sparsity.speed.gate.worker import ClockError

#: A sample lasts at least so many seconds: a timer's tick and an interrupt are small beside it.
LEAST_SAMPLE = 2e-3
_MOST_ITERATIONS = 1 << 20
_TRIALS = 3
#: More rounds than this share spoiled by the clock, and the rest is not believed either.
_SPOILED = 0.1


class Sampler(Protocol):
    """Something that takes one timed sample when it is asked for one."""

    def sample(self, iterations: int) -> float:
        """Seconds of one call, as the mean of ``iterations``."""


@dataclass
class Rounds:
    """What was measured so far; whole rounds only.

    Attributes:
        seconds: per contender one value per round; entry ``i`` of all of them is of one round.
        iterations: calls that a sample is the mean of, per contender.
        broken: why it ended early, in words; empty if it did not.
        details: a traceback, where there is one.
        culprit: the contender that ended it.
        spoiled: rounds thrown away because the clock went backwards in them.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    iterations: dict[str, int] = field(default_factory=dict)
    broken: str = ""
    details: str = ""
    culprit: str = ""
    spoiled: int = 0

    @property
    def count(self) -> int:
        """How many whole rounds there are."""
        return min(map(len, self.seconds.values()), default=0)

    @property
    def doubt(self) -> str:
        """Why the times cannot be trusted; empty if they can."""
        if self.spoiled > _SPOILED * (self.count + self.spoiled):
            return f"the clock went backwards in {self.spoiled} rounds"
        return ""


def calibrate(contender: Sampler) -> int:
    """How many calls make a sample of at least :data:`LEAST_SAMPLE`."""
    iterations = 1
    while True:
        seconds = min(contender.sample(iterations) for _ in range(_TRIALS))
        if seconds * iterations >= LEAST_SAMPLE or iterations >= _MOST_ITERATIONS:
            return iterations
        # By the best estimate, but not by too much at once: the first call may have been slow.
        wanted = math.ceil(1.05 * LEAST_SAMPLE / seconds)
        iterations = min(max(wanted, iterations + 1), 10 * iterations, _MOST_ITERATIONS)


def measure(
    contenders: Mapping[str, Sampler],
    rounds: int,
    seed: int,
    pause: float = 0.0,
    into: Rounds | None = None,
) -> Rounds:
    """Take ``rounds`` samples of each contender, each round in an order shuffled anew.

    Args:
        contenders: by name, warmed up.
        rounds: samples of each.
        seed: of the order.
        pause: seconds to wait between rounds, so that they outlast a short disturbance.
        into: filled as rounds are done, and returned; it keeps them on Ctrl-C.

    Returns:
        Whole rounds: fewer than asked for if a contender raised an exception, which is told in
        ``broken``, or if the clock went backwards.

    Raises:
        ValueError: there is nothing to time.
    """
    if not contenders or rounds < 1:
        raise ValueError(f"nothing to time: {len(contenders)} contenders, {rounds} rounds")
    done = Rounds() if into is None else into
    done.seconds = {name: [] for name in contenders}
    name = next(iter(contenders))
    number = 0
    try:
        for name, contender in contenders.items():
            done.iterations[name] = _calibrated(contender)
        _align(done.iterations)
        order, shuffled = list(contenders), random.Random(seed)
        for number in range(1, rounds + 1):  # noqa: B007 - told if a contender raises
            gc.collect(0)
            shuffled.shuffle(order)
            taken: dict[str, float] = {}
            try:
                for name in order:
                    taken[name] = contenders[name].sample(done.iterations[name])
            except ClockError:
                done.spoiled += 1
                continue
            for name, seconds in taken.items():
                done.seconds[name].append(seconds)
            if pause:
                time.sleep(pause)
    except ClockError:  # of no sample is known how long it must be
        done.spoiled += rounds
    except WorkerError as error:
        _report_broken(done, name, number, str(error), error.details)
    except Exception as error:
        import traceback

        _report_broken(
            done, name, number, f"{type(error).__name__}: {error}", traceback.format_exc()
        )
    return done


def _report_broken(done: Rounds, name: str, number: int, message: str, details: str) -> None:
    where = f"in round {number}" if number else "while it was calibrated"
    done.culprit, done.broken, done.details = name, f"{message} {where}", details


def _calibrated(contender: Sampler) -> int:
    try:
        return calibrate(contender)
    except ClockError:  # once may be an accident
        return calibrate(contender)


def _align(iterations: dict[str, int]) -> None:
    """Let samples of contenders that are about equally fast have the same number of calls.

    The least of longer samples is not as small as that of short ones.
    """
    most = max(iterations.values())
    if most <= 2 * min(iterations.values()):
        iterations.update(dict.fromkeys(iterations, most))
