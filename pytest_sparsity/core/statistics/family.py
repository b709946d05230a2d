"""Many decisions of one run: which of them hold for the run as a whole.

A run decides on a hundred cells and more.  Of so many, each wrong in 2.5 of 100 runs, two or three
are wrong by chance.  Here the *family-wise error* is controlled, the chance that a run in which
nothing is wrong has even one decision against it:

- :attr:`Evidence.p` of each decision, times their number, is Bonferroni's bound.  It can be had
  while the run goes on, whatever the others say, and Holm's step-down (1979, Scandinavian Journal
  of Statistics 6:65-70) contains it.
- :func:`adjusted` steps down over the whole run as Westfall & Young (1993, "Resampling-based
  multiple testing") and Romano & Wolf (2005, Journal of the American Statistical Association
  100:94-108) do: what is held against a decision is the largest of all statistics that is seen
  where nothing is wrong.  Cells of one corpus share documents, and move together: their largest
  is smaller than that of as many separate cells, so that more is found at the same error.

Both hold whichever of the decisions are really wrong (strong control).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics.tails import bounded_tail, normal_score, repeated, upper_tail

#: Of fewer units a resampling says nothing of their mean.
FEWEST_UNITS = 5
#: Of fewer units the far tail of a mean is unknown, but for what their bounds leave possible: of
#: eight shares a p of 0.0001 by Student's t is reached ten times as often as that.
FEW_UNITS = 20
#: What stands in every sample of items right or wrong: one lost, one won.  Without these a sample
#: in which nothing changed has no spread (Bonett & Price 2012, "Adjusted Wald confidence interval
#: for a difference of binomial proportions based on paired data", Journal of Educational and
#: Behavioral Statistics 37:479-488).
LOST_AND_WON = (1.0, -1.0)
_BATCH = 500


@dataclass(frozen=True)
class Evidence:
    """What speaks against one decision's being fine, in units that other decisions share.

    Attributes:
        id: of the decision, unique in a run.
        p: one-sided, that so much speaks against it where it is just fine; all looks included.
        sample: what the units are of, a corpus or a task: decisions with the same one share units
            of the same id.
        units: ids of documents, items or prompts; none where there are none, as for times, or
            where they are too few to be drawn from.
        excess: per unit, by how much it is worse than allowed; the mean is beyond 0 where the
            decision is against.
        added: further values in every sample, see :data:`LOST_AND_WON`.
        looks: how many were planned.
    """

    id: str
    p: float
    sample: str = ""
    units: tuple[str, ...] = ()
    excess: tuple[float, ...] = ()
    added: tuple[float, ...] = ()
    looks: int = 1

    @classmethod
    def of_units(
        cls,
        id: str,
        sample: str,
        excess: Mapping[str, float],
        *,
        added: Sequence[float] = (),
        bounds: tuple[float, float] | None = None,
        looks: int = 1,
    ) -> Evidence:
        """Of a mean over units.

        Args:
            id: of the decision.
            sample: what the units are of.
            excess: per unit, by how much it is worse than allowed.
            added: further values in every sample.
            bounds: of an excess, below and above 0; None if there are none.
            looks: how many were planned.

        Raises:
            ValueError: there are no units, or a value is not finite.
        """
        if not excess:
            raise ValueError(f"{id}: there are no documents or items")
        for unit, value in excess.items():
            if not math.isfinite(value):
                raise ValueError(f"{id}: unit {unit!r} has the value {value}, which is no number")
        values = tuple(map(float, excess.values()))
        tail = upper_tail([*values, *added])
        if bounds is not None and len(values) < FEW_UNITS:
            return cls(id, repeated(max(tail, bounded_tail(values, bounds)), looks), looks=looks)
        p = repeated(tail, looks)
        return cls(id, p, sample, tuple(excess), values, tuple(map(float, added)), looks)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evidence:
        """Read what :meth:`to_json` made."""
        lists = {name: tuple(content[name]) for name in ("units", "excess", "added")}
        return cls(**{**content, **lists})

    def to_json(self) -> dict[str, Any]:
        """Plain data, which crosses processes."""
        return {
            "id": self.id,
            "p": self.p,
            "sample": self.sample,
            "units": list(self.units),
            "excess": list(self.excess),
            "added": list(self.added),
            "looks": self.looks,
        }

    @property
    def _resampled(self) -> bool:
        """Whether its units can stand for others like them."""
        return len(self.units) >= FEWEST_UNITS and self.p < 1


def adjusted(
    decisions: Sequence[Evidence], *, seed: int, resamples: int = 10_000
) -> dict[str, float]:
    """The p of each decision for the run, by id: it holds for the run up to the run's error.

    Never larger than Holm's.  Units are drawn with replacement, the same for all decisions of a
    sample; their number is Poisson's, so that decisions that saw part of the sample see the same
    draws of that part.

    Args:
        decisions: all of the run, those that are fine among them.
        seed: the same seed and decisions give the same values, in whatever order they come.
        resamples: samples drawn.

    Raises:
        ValueError: two decisions have one id.
    """
    ids = [decision.id for decision in decisions]
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise ValueError(f"{twice!r} was decided twice; each decision of a run has one id")
    ordered = sorted(decisions, key=lambda decision: decision.id)
    by_p = _holm(ordered)
    drawn = [decision for decision in ordered if decision._resampled]
    others = sorted(each.p for each in ordered if not each._resampled)
    by_draw = _largest(drawn, others, seed, resamples)
    return {id: min(1.0, by_p[id], by_draw.get(id, 1.0)) for id in ids}


def _holm(decisions: Sequence[Evidence]) -> dict[str, float]:
    found, worst = {}, 0.0
    for place, decision in enumerate(sorted(decisions, key=lambda decision: decision.p)):
        worst = max(worst, (len(decisions) - place) * decision.p)
        found[decision.id] = worst
    return found


def _largest(
    decisions: Sequence[Evidence], others: Sequence[float], seed: int, resamples: int
) -> dict[str, float]:
    """By the largest statistic of all that are left; what has no units counts as Bonferroni has it.

    Args:
        decisions: those with units.
        others: p of those without.
        seed: of the draws.
        resamples: samples drawn.
    """
    scored = [(_score(decision), decision) for decision in decisions]
    scored.sort(key=lambda pair: (pair[0], pair[1].id))  # the least significant first
    scores = np.array([score for score, _ in scored])
    beyond = np.zeros(len(scored))
    rng = np.random.default_rng(seed)
    groups = _groups([decision for _, decision in scored])
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        sampled = np.empty((len(scored), size))
        for group in groups:
            sampled[group.rows] = group.draw(rng, size)
        largest = np.maximum.accumulate(sampled, axis=0)
        beyond += (largest >= scores[:, None]).sum(axis=1)
    shares = (beyond + 1) / (resamples + 1)
    found, worst = {}, 0.0
    for (score, decision), share in zip(reversed(scored), reversed(shares), strict=True):
        p = float(stats.norm.sf(score))
        left = sum(other >= p for other in others)
        worst = max(worst, float(share) + left * p)
        found[decision.id] = worst
    return found


def _score(decision: Evidence) -> float:
    """The statistic on the scale of a standard normal, all looks included."""
    values = np.array([*decision.excess, *decision.added])
    error = values.std(ddof=1) / math.sqrt(values.size)
    if not error:
        return -math.inf
    p = float(stats.norm.sf(normal_score(values.mean() / error, values.size - 1)))
    return float(stats.norm.isf(repeated(p, decision.looks)))


@dataclass(frozen=True)
class _Group:
    """The decisions of one sample.

    Attributes:
        rows: their places in the order of significance.
        excess: float64 [decisions, units], less its mean in each; 0 for units not seen.
        seen: whether a decision saw a unit, as float64 [decisions, units].
        added: float64 [decisions, 3]: number, sum and sum of squares of what is added.
    """

    rows: list[int]
    excess: np.ndarray
    seen: np.ndarray
    added: np.ndarray

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Statistics of ``size`` samples in which nothing is wrong: [decisions, size]."""
        counts = rng.poisson(1.0, (self.excess.shape[1], size)).astype(np.float64)
        number = self.seen @ counts + self.added[:, :1]
        total = self.excess @ counts + self.added[:, 1:2]
        squares = np.square(self.excess) @ counts + self.added[:, 2:]
        with np.errstate(all="ignore"):
            mean = total / number
            variance = (squares / number - np.square(mean)) / (number - 1)
            statistic = mean / np.sqrt(np.maximum(variance, 0))
            score = normal_score(statistic, number - 1)
        # A sample of one document alone has no spread, and says nothing for or against.
        return np.where(np.isnan(score), math.inf, score)


def _groups(decisions: Sequence[Evidence]) -> list[_Group]:
    """The decisions by sample, in the order of the samples' names."""
    rows: dict[str, list[int]] = {}
    for row, decision in enumerate(decisions):
        rows.setdefault(decision.sample, []).append(row)
    return [_group(places, [decisions[p] for p in places]) for _, places in sorted(rows.items())]


def _group(rows: list[int], decisions: Sequence[Evidence]) -> _Group:
    column = {u: i for i, u in enumerate(sorted({u for d in decisions for u in d.units}))}
    excess = np.zeros((len(decisions), len(column)))
    seen = np.zeros_like(excess)
    added = np.zeros((len(decisions), 3))
    for row, decision in enumerate(decisions):
        places = [column[unit] for unit in decision.units]
        further = np.array(decision.added)
        mean = (sum(decision.excess) + further.sum()) / (len(places) + further.size)
        excess[row, places] = np.array(decision.excess) - mean
        seen[row, places] = 1
        further = further - mean
        added[row] = further.size, further.sum(), np.square(further).sum()
    return _Group(rows, excess, seen, added)
