"""Decisions on documents that two models scored, by our gate and by others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rivals_accuracy import alarms

from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import judge_change

#: A document: id, tokens, negative log-likelihood in nats.
Scored = tuple[str, int, float]
#: One document by the model that is judged, and by the one of the stored run.
Pair = tuple[Scored, Scored]

_CELL = Cell(Configuration("drawn"), "perplexity:drawn")


def scored(units: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """The documents of a record."""
    return [(u["id"], u["tokens"], -math.fsum(u["log_likelihoods"])) for u in units]


def paired(now: Sequence[Scored], before: Sequence[Scored]) -> list[Pair]:
    """Every document of ``now``, with the same one of ``before``."""
    by_id = {document[0]: document for document in before}
    return [(document, by_id[document[0]]) for document in now]


def disjoint(pairs: Sequence[Pair], documents: int) -> list[Sequence[Pair]]:
    """Parts of so many documents; a rest is left out."""
    starts = range(0, len(pairs) - documents + 1, documents)
    return [pairs[start : start + documents] for start in starts]


def counted(draws: Sequence[Sequence[Pair]]) -> dict[str, Any]:
    """How many draws were decided to be what by ``judge_change``, and the alarms of others."""
    ours: Counter[str] = Counter()
    rivals: Counter[str] = Counter()
    for number, pairs in enumerate(draws):
        now, before = zip(*pairs, strict=True)
        ours[judge_change(_record(now), _record(before), seed=number).decision.value] += 1
        sides = ([(tokens, nll) for _, tokens, nll in side] for side in (now, before))
        rivals.update({rule: int(alarm) for rule, alarm in alarms(*sides).items()})
    return {"decisions": len(draws), "ours": ours, "rivals": rivals}


def exactly(loss: float, pairs: Sequence[Pair]) -> list[Pair]:
    """The same documents, with what is missing of ``loss`` added to every token."""
    missing = math.log1p(loss) - math.log1p(loss_of(pairs))
    return [((id, n, nll + n * missing), before) for (id, n, nll), before in pairs]


def loss_of(pairs: Sequence[Pair]) -> float:
    """Relative rise of perplexity over all documents: 0.01 is +1 %."""
    rise = math.fsum(now - before for (_, _, now), (_, _, before) in pairs)
    return math.expm1(rise / sum(tokens for (_, tokens, _), _ in pairs))


def spread(pairs: Sequence[Pair]) -> float:
    """Standard deviation between documents of the rise of the loss per token."""
    rises = [(now - before) / tokens for (_, tokens, now), (_, _, before) in pairs]
    mean = math.fsum(rises) / len(rises)
    return math.sqrt(math.fsum((rise - mean) ** 2 for rise in rises) / (len(rises) - 1))


def _record(documents: Sequence[Scored]) -> Record:
    """A record; the same document may be in it more than once."""
    units = [
        {"id": f"{number} {id}", "tokens": tokens, "log_likelihoods": [-nll]}
        for number, (id, tokens, nll) in enumerate(documents)
    ]
    return Record(_CELL, {}, {"documents": units}, {}, "")
