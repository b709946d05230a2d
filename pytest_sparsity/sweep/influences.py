"""What every document, item or prompt adds to each metric of a cell; see :mod:`.comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_sparsity.core.statistics import Influence, influence
from pytest_sparsity.evaluation.generation import first_divergence
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    EXACT_MATCH,
    GENERATION,
    PERPLEXITY,
)
from pytest_sparsity.sweep.metric import paired
from pytest_sparsity.sweep.record import Record, is_right

Unit = Mapping[str, Any]
#: Of an item: both right or wrong, one of them.
_CHANGE = (-1.0, 1.0)


def influences(record: Record, dense: Record, without_spon: Record | None) -> dict[str, Influence]:
    """By metric; of the damage against dense, or of the value of what is no damage.

    Args:
        record: of any cell but the dense one.
        dense: the same evaluation of the dense model.
        without_spon: the same with SPON off, when ``record`` has it on.
    """
    kind, subject = record.cell.kind, record.cell.subject
    if kind == PERPLEXITY:
        return _of_perplexity(record, dense, without_spon)
    if kind == GENERATION:
        off = [_off_path(prompt) for prompt in record.units]
        return {f"path:{GENERATION}": _of(record, record.units, off)}
    if kind == DIVERGENCE:
        return _of_divergence(record)
    pairs = paired(record, dense)
    own = [mine for mine, _ in pairs]
    if kind == ANSWER_LIKELIHOOD:
        return {
            f"answer_greedy:{subject}": _of_right(record, record, dense),
            **{
                f"{part}_nll:{subject}": _of(
                    record,
                    own,
                    [theirs[part] - mine[part] for mine, theirs in pairs],
                    [float(theirs[f"{part}_tokens"]) for _, theirs in pairs],
                )
                for part in ("answer", "chain")
            },
        }
    if kind == EXACT_MATCH:
        off = [_off(mine["path"], theirs["path"]) for mine, theirs in pairs]
        return {
            f"exact_match:{subject}": _of_right(record, record, dense),
            f"path:{subject}": _of(record, own, off),
        }
    return {f"accuracy:{subject}": _of_right(record, record, dense)}


def influence_of_change(now: Record, before: Record) -> Influence:
    """Of the damage since a stored run, as the gate on accuracy has it.

    Args:
        now: of this run.
        before: of the stored run, the same cell.
    """
    if now.cell.kind == PERPLEXITY:
        return _of_perplexity_change(now, before)
    if now.cell.kind not in (GENERATION, DIVERGENCE):
        return _of_right(before, now, before)
    pairs = paired(now, before)
    own = [mine for mine, _ in pairs]
    if now.cell.kind == GENERATION:
        further = [_off_path(mine) - _off_path(theirs) for mine, theirs in pairs]
        return _of(now, own, further)
    further = [mine["reasoning"]["kl"] - theirs["reasoning"]["kl"] for mine, theirs in pairs]
    return _of(now, own, further, [float(mine["tokens"]) for mine in own])


def influence_of_damage(
    now: Record, dense_now: Record, before: Record, dense_before: Record
) -> Influence:
    """Of what the damage of a cell grew by since a stored run, over the units of all four.

    Args:
        now: of this run, sparse.
        dense_now: the same evaluation of this run's dense model.
        before: of the stored run, the same cell as ``now``.
        dense_before: the same evaluation of the stored run's dense model.
    """
    units = paired(now, dense_now, before, dense_before)
    own = [mine for mine, *_ in units]
    if now.cell.kind == PERPLEXITY:
        more = [(_nll(a) - _nll(b)) - (_nll(c) - _nll(d)) for a, b, c, d in units]
        return _as_ratio(_of(now, own, more, [float(mine["tokens"]) for mine in own]))
    right = [[float(is_right(before.measured, unit)) for unit in each] for each in units]
    return _of(now, own, [(b - a) - (d - c) for a, b, c, d in right])


def _of(
    record: Record,
    units: Sequence[Unit],
    above: Sequence[float],
    below: Sequence[float] | None = None,
    *,
    bounds: tuple[float, float] | None = None,
) -> Influence:
    """Documents are known by the hash of their text, items by their task and name."""
    text = record.cell.kind in (PERPLEXITY, GENERATION)
    prefix = "" if text else f"{record.cell.subject}/"
    names = [prefix + unit["id"] for unit in units]
    return influence(above, below, units=names, bounds=bounds)


def _of_perplexity(
    record: Record, dense: Record, without_spon: Record | None
) -> dict[str, Influence]:
    subject, own = record.cell.subject, record.units
    tokens = [float(document["tokens"]) for document in own]
    lost = [document["tokens"] - document["agreement"] for document in own]
    found = {
        f"perplexity:{subject}": _of_perplexity_change(record, dense),
        f"kl:{subject}": _of(record, own, [d["kl"] for d in own], tokens),
        f"agreement:{subject}": _of(record, own, lost, tokens),
    }
    if record.cell.configuration.spon != OFF and without_spon is not None:
        triples = paired(record, dense, without_spon)
        found[f"recovery:{subject}"] = _of(
            record,
            [on for on, _, _ in triples],
            [_nll(off) - _nll(on) for on, _, off in triples],
            [_nll(off) - _nll(reference) for _, reference, off in triples],
        )
    return found


def _of_perplexity_change(now: Record, base: Record) -> Influence:
    pairs = paired(now, base)
    own = [mine for mine, _ in pairs]
    rise = _of(
        now,
        own,
        [_nll(mine) - _nll(theirs) for mine, theirs in pairs],
        [float(mine["tokens"]) for mine in own],
    )
    return _as_ratio(rise)


def _as_ratio(rise: Influence) -> Influence:
    """Of a rise of log-perplexity: the factor, less 1."""
    ratio = math.exp(rise.estimate)
    return replace(rise, estimate=ratio - 1, error=ratio * rise.error, values=ratio * rise.values)


def _of_divergence(record: Record) -> dict[str, Influence]:
    subject, own = record.cell.subject, record.units
    tokens = [float(unit["tokens"]) for unit in own]
    sums = {part: [unit[part]["kl"] for unit in own] for part in ("reasoning", "prose")}
    return {
        **{
            f"kl_{part}:{subject}": _of(record, own, values, tokens)
            for part, values in sums.items()
        },
        f"kl_ratio:{subject}": _of(record, own, sums["reasoning"], sums["prose"]),
    }


def _of_right(rule: Record, now: Record, before: Record) -> Influence:
    """Of the drop in items right; ``rule`` says which field tells that."""
    pairs = paired(now, before)
    lost = [
        float(is_right(rule.measured, theirs)) - float(is_right(rule.measured, mine))
        for mine, theirs in pairs
    ]
    return _of(now, [mine for mine, _ in pairs], lost, bounds=_CHANGE)


def _nll(document: Unit) -> float:
    return -math.fsum(document["log_likelihoods"])


def _off_path(prompt: Unit) -> float:
    step = prompt["first_divergence"]
    return 0.0 if step is None else 1 - float(step) / float(prompt["tokens"])


def _off(own: Sequence[int], reference: Sequence[int]) -> float:
    step, length = first_divergence(own, reference), len(reference)
    return 0.0 if step is None else 1 - min(step, length) / max(length, 1)
