"""Before a run: the smallest effect that so much data shows, and how much data an effect needs.

All of it follows from the spread between units and from how a decision is reached.  A decision
about one metric is *found* if at one of its planned looks the estimate is so far beyond the limit
that its one-sided error stays below a level.  Estimates are taken as normal, and their errors as
estimated from as many units (Student's t at every look, the significance-level approach of
Jennison & Turnbull 2000, "Group Sequential Methods with Applications to Clinical Trials", section
4.4), so figures are good to some per cent from a dozen units on and rough below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from pytest_sparsity.core.statistics.influence import Influence
from pytest_sparsity.core.statistics.interval import Vector
from pytest_sparsity.core.statistics.looks import level_of_a_look

#: Share of runs in which an effect is to be found.
POWER = 0.9
#: What one interval of 95 % errs to one side.
ALONE = 0.025
_NODES = 64
_BATCH = 500
_MANY, _MOST = 10_000, 10**9
#: Standard deviations from the mean within which all is integrated.
_FAR = 8.0


@dataclass(frozen=True)
class Spread:
    """How far one metric differs from unit to unit.

    Attributes:
        deviation: standard deviation of what one document or item adds to the estimate, in the
            metric's unit: n units have a standard error of ``deviation / sqrt(n)``.
        estimate: of the metric, where the spread was measured.
        counts: whether units are right or wrong, so that a larger loss spreads more.
    """

    deviation: float
    estimate: float = 0.0
    counts: bool = False

    def at(self, truth: float) -> float:
        """The deviation where the true value of the metric is ``truth``.

        Of a drop in a share of items right: what is lost beyond the measured drop are items that
        both had right, and become discordant, one by one.  The variance of one item is then the
        share of discordant items less the drop squared (Connor 1987, Biometrics 43:207-211).
        """
        beyond = truth - self.estimate
        if not self.counts or beyond <= 0:
            return self.deviation
        variance = self.deviation**2 + beyond - beyond * (truth + self.estimate)
        return math.sqrt(max(variance, 0.0))


@dataclass(frozen=True)
class Design:
    """How one decision is reached.

    Attributes:
        amounts: units at each planned look, growing.
        error: one-sided chance that a decision at the limit is found at any of the looks.
    """

    amounts: tuple[float, ...]
    error: float = ALONE

    def times(self, factor: float) -> Design:
        """The same looks at ``factor`` times as many units."""
        return Design(tuple(amount * factor for amount in self.amounts), self.error)


def smallest_effect(
    spread: Spread, design: Design, *, limit: float = 0.0, power: float = POWER
) -> float:
    """How far beyond ``limit`` the truth must be to be found in a share ``power`` of runs.

    Infinite where a look has no second unit, from which alone nothing follows, and of a share of
    items where not even the loss of all would do.
    """
    if min(design.amounts) < 2:
        return math.inf
    errors = _errors(design, power) / math.sqrt(design.amounts[-1])
    if not spread.counts:
        return errors * spread.deviation

    def lacks(effect: float) -> float:
        return effect - errors * spread.at(limit + effect)

    most = 1.0 - limit
    return float(optimize.brentq(lacks, 0.0, most)) if lacks(most) > 0 else math.inf


def units_needed(
    spread: Spread, design: Design, effect: float, *, limit: float = 0.0, power: float = POWER
) -> int | None:
    """Units of the first look from which on ``effect`` beyond ``limit`` is found.

    Args:
        spread: of the metric.
        design: its looks keep their proportions, and its amounts are not looked at otherwise.
        effect: in the metric's unit, positive.
        limit: what the metric is held against.
        power: share of runs.

    Returns:
        None where no amount of up to some thousand million units does.

    Raises:
        ValueError: ``effect`` is not positive.
    """
    if not effect > 0:
        raise ValueError(f"effect must be positive, not {effect:g}")
    looks = design.times(1 / design.amounts[0])

    def enough(first: int) -> bool:
        found = smallest_effect(spread, looks.times(first), limit=limit, power=power)
        return found <= effect

    # An effect shrinks about as the root of the units grows.
    many = smallest_effect(spread, looks.times(_MANY), limit=limit, power=power)
    guess = _MANY * (many / effect) ** 2
    return None if guess > _MOST else _first(enough, max(2, round(guess)))


def _first(holds: Callable[[int], bool], guess: int) -> int | None:
    """The least whole number from 2 on of which ``holds`` is true; it stays true beyond."""
    low, high, step = 1, guess, max(1, guess // 16)
    while not holds(high):
        if high > _MOST:
            return None
        low, high, step = high, high + step, 2 * step
    while high - step > low and holds(high - step):
        high, step = high - step, 2 * step
    low = max(low, high - step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _errors(design: Design, power: float) -> float:
    """The effect that is found, in standard errors of the last look."""
    level = (1 - level_of_a_look(1 - 2 * design.error, len(design.amounts))) / 2
    limits = tuple(float(stats.t.isf(level, amount - 1)) for amount in design.amounts)
    times = tuple(amount / design.amounts[-1] for amount in design.amounts)
    return _drift(limits, times, power)


@lru_cache(maxsize=4096)
def _drift(limits: tuple[float, ...], times: tuple[float, ...], power: float) -> float:
    single = limits[-1] + float(stats.norm.ppf(power))
    if len(limits) == 1:
        return single
    return float(
        optimize.brentq(lambda drift: missed(limits, times, drift) - (1 - power), 0.0, single)
    )


def missed(limits: Sequence[float], times: Sequence[float], drift: float) -> float:
    """Chance that no look finds an effect.

    Args:
        limits: of the statistic at each look, in its standard errors then.
        times: amount of data at each look, as a share of that at the last, growing to 1.
        drift: the true effect, in standard errors of the last look.

    Integrates over one look after the other, as :mod:`.looks` does: Brownian motion with
    ``drift`` that must stay below ``limit * sqrt(time)``.
    """
    nodes, weights = _rule()
    before, density, at = 0.0, np.array([1.0]), np.array([0.0])
    for limit, time in zip(limits, times, strict=True):
        step, reach = math.sqrt(time - before), _FAR * math.sqrt(time)
        bottom, top = drift * time - reach, min(limit * math.sqrt(time), drift * time + reach)
        if top <= bottom:
            return 0.0
        half = (top - bottom) / 2
        place = (top + bottom) / 2 + half * nodes
        move = (place[:, None] - at - drift * (time - before)) / step
        arrived = np.exp(-0.5 * np.square(move)) @ density / (step * math.sqrt(2 * math.pi))
        density, at, before = arrived * weights * half, place, time
    return float(density.sum())


@lru_cache(maxsize=1)
def _rule() -> tuple[Vector, Vector]:
    """Nodes and weights of Gauss and Legendre's rule on (-1, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def shared_error(
    influences: Sequence[Influence], error: float, *, seed: int, draws: int = 20_000
) -> float:
    """What each decision of a run may err by to one side, so that all together err by ``error``.

    Args:
        influences: one per decision; decisions that share a unit are correlated through it.
        error: of the run, in (0, 1).
        seed: of the draws.
        draws: of the joint distribution.

    Returns:
        From ``error / len(influences)`` (Bonferroni, and where decisions are independent) up to
        ``error``, where all are the same.  It is the level of the first step of a step-down by
        resampling (Romano & Wolf 2005, Econometrica 73:1237-1282), with units weighted at random
        (the multiplier bootstrap) instead of drawn.
    """
    units = {unit: row for row, unit in enumerate(_all_units(influences))}
    table = np.zeros((len(units), len(influences)))
    for column, each in enumerate(influences):
        if (size := float(np.linalg.norm(each.values))) > 0:
            table[[units[unit] for unit in each.units], column] = each.values / size
    generator = np.random.default_rng(seed)
    greatest = [
        (generator.standard_normal((_BATCH, len(units))) @ table).max(axis=1)
        for _ in range(math.ceil(draws / _BATCH))
    ]
    found = float(stats.norm.sf(np.quantile(np.concatenate(greatest), 1 - error)))
    return min(max(found, error / len(influences)), error)


def _all_units(influences: Sequence[Influence]) -> dict[Hashable, None]:
    return dict.fromkeys(unit for each in influences for unit in each.units)
