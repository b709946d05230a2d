"""What changed between two records of a cell, and between two damages, and what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.core.statistics import Interval, mcnemar, paired_mean, paired_proportion
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY
from pytest_sparsity.sweep.comparable import Pair
from pytest_sparsity.sweep.comparison import perplexity_change, through
from pytest_sparsity.sweep.metric import DIFFERENCE, paired
from pytest_sparsity.sweep.record import Record, is_right

#: Relative increase of perplexity that is no regression: above what another rounding does to a
#: dense model, and half of the smallest loss that is worth a failing test, 1 %.  Measured on
#: smollm2-135m with 32 documents, float32 against bfloat16 moves it by 0.04 % [-0.10, +0.49] when
#: dense and by 0.4 % [-0.1, +1.1] at level 0.25.  At level 0.5 masks flip with the last bit, each
#: document goes its own way (-0.8 % [-2.9, +1.1]), and so few documents leave 1 % undecided.
PERPLEXITY_TOLERANCE = 0.005

#: Drop of accuracy, as a share, that is no regression: one item in a hundred, the smallest step
#: that the default number of items has; an item whose choices are tied turns with the last bit.
#: Unless all scores are equal to the last bit, a hundred items cannot show that no more was lost:
#: with not one answer changed the interval still reaches 2 to 3 points, which is inconclusive.
#: The same share of greedy tokens may leave the dense model's path.
ACCURACY_TOLERANCE = 0.01

#: Nats per token by which a model may be further from the dense one on reasoning: as much as it
#: takes to raise perplexity by 1 %.
DIVERGENCE_TOLERANCE = 0.01

#: Evaluations that are measured from the dense model: what they give is a damage already.
FROM_DENSE = (GENERATION, DIVERGENCE)

Unit = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A change, positive when worse.

    Attributes:
        interval: the change.
        tolerance: how much of it is no regression, in the same unit.
        text: the sentence about both.
        before: the figure itself before.
        now: the figure itself now.
        p_value: of McNemar's exact test, for right and wrong.
    """

    interval: Interval
    tolerance: float
    text: str
    before: float
    now: float
    p_value: float | None = None


def change_of(now: Record, before: Record, pairs: Sequence[Pair], seed: int) -> Change:
    """What changed in a cell.

    Args:
        now: of this run.
        before: of the stored run, the same cell.
        pairs: what both hold, see :func:`~.comparable.common_units`.
        seed: of the bootstrap.
    """
    kind = now.cell.kind
    if kind == PERPLEXITY:
        found = _perplexity(now, before, pairs, seed)
    elif kind == DIVERGENCE:
        found = _divergence(now, pairs, seed)
    elif kind == GENERATION:
        found = _paths(now, pairs, seed)
    else:
        found = _accuracy(now, before, pairs)
    return _told(found, len(now.units), len(before.units), len(pairs))


def change_of_damage(
    now: Record, dense_now: Record, before: Record, dense_before: Record, seed: int
) -> Change | None:
    """What changed in the damage of a cell; None where no unit is in all four records."""
    units = paired(now, dense_now, before, dense_before)
    if not units:
        return None
    if now.cell.kind == PERPLEXITY:
        found = _damage_of_perplexity(now, units, seed)
    else:
        found = _damage_of_accuracy((now, dense_now, before, dense_before), units, seed)
    return _told(found, len(now.units), len(before.units), len(units))


def figure_of(record: Record, units: Sequence[Unit]) -> float:
    """What a cell measures: perplexity, nats per token, or a share, over some of its units."""
    kind = record.cell.kind
    if kind == PERPLEXITY:
        return math.exp(_per_token(units))
    if kind == DIVERGENCE:
        total = math.fsum(unit["tokens"] for unit in units)
        return math.fsum(unit["reasoning"]["kl"] for unit in units) / total
    if kind == GENERATION:
        return _share([_off_path(unit) for unit in units])
    return _share([is_right(record.measured, unit) for unit in units])


def _perplexity(now: Record, before: Record, pairs: Sequence[Pair], seed: int) -> Change:
    change = perplexity_change(now, before, seed=seed)
    text = (
        f"perplexity {_interval(change)} % over {counted(now, change.n)}, "
        f"{_tolerated(PERPLEXITY_TOLERANCE)} %"
    )
    return Change(change, PERPLEXITY_TOLERANCE, text, *_figures(now, pairs))


def _divergence(now: Record, pairs: Sequence[Pair], seed: int) -> Change:
    tokens = [float(a["tokens"]) for a, _ in pairs]
    further = [a["reasoning"]["kl"] - b["reasoning"]["kl"] for a, b in pairs]
    change = paired_mean(further, tokens, seed=seed)
    text = (
        f"divergence on reasoning {change:+.4f} nats per token over "
        f"{counted(now, change.n)}, tolerated {DIVERGENCE_TOLERANCE:g} nats"
    )
    return Change(change, DIVERGENCE_TOLERANCE, text, *_figures(now, pairs))


def _paths(now: Record, pairs: Sequence[Pair], seed: int) -> Change:
    further = [_off_path(a) - _off_path(b) for a, b in pairs]
    change = paired_mean(further, seed=seed, bounds=DIFFERENCE)
    text = (
        f"greedy tokens off the dense path {_interval(change)} points over "
        f"{counted(now, change.n)}, {_tolerated(ACCURACY_TOLERANCE)} points"
    )
    return Change(change, ACCURACY_TOLERANCE, text, *_figures(now, pairs))


def _accuracy(now: Record, before: Record, pairs: Sequence[Pair]) -> Change:
    was = [is_right(before.measured, b) for _, b in pairs]
    is_now = [is_right(before.measured, a) for a, _ in pairs]
    change, p_value = paired_proportion(was, is_now), mcnemar(was, is_now)
    lost = sum(b and not a for b, a in zip(was, is_now, strict=True))
    won = sum(a and not b for b, a in zip(was, is_now, strict=True))
    text = (
        f"accuracy dropped by {_interval(change)} points, {lost} items lost and {won} won, "
        f"McNemar p = {p_value:.2g} over {counted(now, change.n)}, "
        f"{_tolerated(ACCURACY_TOLERANCE)} points"
    )
    return Change(change, ACCURACY_TOLERANCE, text, _share(was), _share(is_now), p_value)


def _damage_of_perplexity(now: Record, units: Sequence[tuple[Unit, ...]], seed: int) -> Change:
    """The factor by which sparse exceeds dense, now over before, less 1."""
    tokens = [float(each[0]["tokens"]) for each in units]
    more = [(_nll(a) - _nll(b)) - (_nll(c) - _nll(d)) for a, b, c, d in units]
    change = through(math.expm1, paired_mean(more, tokens, seed=seed))
    a, b, c, d = (_per_token(list(side)) for side in zip(*units, strict=True))
    was, is_now = math.expm1(c - d), math.expm1(a - b)
    text = (
        f"sparsity costs {100 * is_now:+.2f} % of perplexity, before {100 * was:+.2f} %: changed "
        f"by {_interval(change)} % over {counted(now, change.n)}, "
        f"{_tolerated(PERPLEXITY_TOLERANCE)} %"
    )
    return Change(change, PERPLEXITY_TOLERANCE, text, was, is_now)


def _damage_of_accuracy(
    records: Sequence[Record], units: Sequence[tuple[Unit, ...]], seed: int
) -> Change:
    """The drop from dense to sparse, now less before, item by item from -2 to 2."""
    measured = records[2].measured
    right = [[int(is_right(measured, unit)) for unit in each] for each in units]
    more = [(b - a) - (d - c) for a, b, c, d in right]
    change = paired_mean([float(each) for each in more], seed=seed, bounds=(-2, 2))
    was, is_now = _share([d - c for _, _, c, d in right]), _share([b - a for a, b, _, _ in right])
    text = (
        f"sparsity costs {100 * is_now:+.2f} points, before {100 * was:+.2f}: changed by "
        f"{_interval(change)} points over {counted(records[0], change.n)}, "
        f"{_tolerated(ACCURACY_TOLERANCE)} points"
    )
    return Change(change, ACCURACY_TOLERANCE, text, was, is_now)


def _figures(now: Record, pairs: Sequence[Pair]) -> tuple[float, float]:
    """The figure before, and now."""
    return figure_of(now, [b for _, b in pairs]), figure_of(now, [a for a, _ in pairs])


def counted(record: Record, n: int) -> str:
    """``32 documents``."""
    name = {PERPLEXITY: "documents", GENERATION: "prompts"}.get(record.cell.kind, "items")
    return f"{n} {name}"


def _told(found: Change, now: int, before: int, both: int) -> Change:
    """The change with what there is to say besides: units of one side, and of the interval."""
    said = []
    if both < max(now, before):
        said.append(f"{both} are in both of {now} now and {before} before")
    if found.interval.note:
        said.append(found.interval.note)
    return replace(found, text="; ".join([found.text, *said]))


def _nll(document: Unit) -> float:
    return -math.fsum(document["log_likelihoods"])


def _per_token(documents: Sequence[Unit]) -> float:
    return math.fsum(map(_nll, documents)) / math.fsum(each["tokens"] for each in documents)


def _off_path(prompt: Unit) -> float:
    step = prompt["first_divergence"]
    return 0.0 if step is None else 1 - float(step) / float(prompt["tokens"])


def _share(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _interval(change: Interval) -> str:
    return f"{100 * change.estimate:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def _tolerated(tolerance: float) -> str:
    return f"tolerated {100 * tolerance:g}"
