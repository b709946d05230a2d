"""Turns a cell's record and its dense counterpart into metrics with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_sparsity.core.statistics import Interval, paired_mean, paired_ratio
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    EXACT_MATCH,
    GENERATION,
    PERPLEXITY,
    TASK,
)
from pytest_sparsity.sweep.metric import NOT_NEGATIVE, SHARE, Comparison, paired
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.task_metrics import task_metrics

__all__ = ["Comparison", "compare", "evaluation_of", "perplexity_change"]

PATH = f"path:{GENERATION}"
#: What is said of a change between records that are the same: there is nothing to estimate.
BIT_EQUAL = "equal to the last bit"
_EVALUATION_OF = {
    "accuracy": TASK,
    "exact_match": EXACT_MATCH,
    "path": EXACT_MATCH,
    "answer_greedy": ANSWER_LIKELIHOOD,
    "answer_nll": ANSWER_LIKELIHOOD,
    "chain_nll": ANSWER_LIKELIHOOD,
    "kl_reasoning": DIVERGENCE,
    "kl_prose": DIVERGENCE,
    "kl_ratio": DIVERGENCE,
}


def compare(
    record: Record, dense: Record, without_spon: Record | None, *, seed: int, looks: int = 1
) -> list[Comparison]:
    """All metrics of ``record``.

    Args:
        record: of any cell.
        dense: the same evaluation of the dense model; may be ``record`` itself.
        without_spon: the same evaluation with SPON off, when ``record`` has it on.
        seed: of the bootstrap.
        looks: at how many amounts of data a verdict may be spoken (:mod:`.statistics.looks`).
    """
    kind = record.cell.kind
    if kind == PERPLEXITY:
        return _perplexity(record, dense, without_spon, seed, looks)
    if kind == GENERATION:
        return _path(record, seed)
    return task_metrics(record, dense, seed, looks)


def evaluation_of(metric: str) -> str:
    """The evaluation that measures ``metric``: ``task:sva`` for ``accuracy:sva``."""
    name, _, subject = metric.partition(":")
    if metric == PATH:
        return GENERATION
    return f"{_EVALUATION_OF.get(name, PERPLEXITY)}:{subject}"


def perplexity_change(record: Record, base: Record, *, seed: int, looks: int = 1) -> Interval:
    """Relative change of perplexity from ``base`` to ``record``: 0.03 is +3 %.

    Paired: exp(mean difference of NLL per token) - 1 over the documents both have, with a
    bootstrap over documents.
    """
    pairs = paired(record, base)
    if pairs and all(
        after["log_likelihoods"] == before["log_likelihoods"] for after, before in pairs
    ):
        return Interval(0.0, 0.0, 0.0, len(pairs), detectable=0.0, note=BIT_EQUAL)
    difference = paired_mean(
        [_nll(after) - _nll(before) for after, before in pairs],
        [float(after["tokens"]) for after, _ in pairs],
        seed=seed,
        looks=looks,
    )
    return through(math.expm1, difference)


def _nll(document: dict[str, Any]) -> float:
    return -math.fsum(document["log_likelihoods"])


def _perplexity(
    record: Record, dense: Record, without_spon: Record | None, seed: int, looks: int
) -> list[Comparison]:
    cell, corpus = record.cell, record.cell.subject
    own = record.units
    tokens = [float(d["tokens"]) for d in own]
    loss = paired_mean([_nll(d) for d in own], tokens, seed=seed, looks=looks, bounds=NOT_NEGATIVE)
    value = through(math.exp, loss)
    if cell == dense.cell:
        return [Comparison(cell, f"perplexity:{corpus}", value)]
    change = perplexity_change(record, dense, seed=seed, looks=looks)
    divergence = paired_mean(
        [d["kl"] for d in own], tokens, seed=seed, looks=looks, bounds=NOT_NEGATIVE
    )
    agree = [float(d["agreement"]) for d in own]
    agreement = paired_mean(agree, tokens, seed=seed, looks=looks, bounds=SHARE)
    if change.note == BIT_EQUAL:
        divergence, agreement = change, through(lambda x: 1 - x, change)
    found = [
        Comparison(
            cell,
            f"perplexity:{corpus}",
            value,
            change,
            dense=_perplexity_on(dense, own),
        ),
        Comparison(cell, f"kl:{corpus}", divergence, divergence),
        Comparison(cell, f"agreement:{corpus}", agreement, through(lambda x: 1 - x, agreement)),
    ]
    if cell.configuration.spon != OFF and without_spon is not None:
        triples = paired(record, dense, without_spon)
        recovered = paired_ratio(
            [_nll(off) - _nll(on) for on, _, off in triples],
            [_nll(off) - _nll(reference) for _, reference, off in triples],
            seed=seed,
            looks=looks,
        )
        found.append(Comparison(cell, f"recovery:{corpus}", recovered))
    return found


def _perplexity_on(dense: Record, documents: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the dense model, on the documents of another record."""
    wanted = {document["id"] for document in documents}
    same = [document for document in dense.units if document["id"] in wanted]
    if not same:
        return None
    return math.exp(math.fsum(map(_nll, same)) / math.fsum(d["tokens"] for d in same))


def _path(record: Record, seed: int) -> list[Comparison]:
    prompts = record.units
    steps = [
        float(p["tokens"] if p["first_divergence"] is None else p["first_divergence"])
        for p in prompts
    ]
    value = paired_mean(steps, seed=seed, bounds=(0, max(1, *(p["tokens"] for p in prompts))))
    change = None
    if not record.cell.configuration.is_reference:
        change = paired_mean(
            [1 - step / p["tokens"] for step, p in zip(steps, prompts, strict=True)],
            seed=seed,
            bounds=SHARE,
        )
    return [Comparison(record.cell, PATH, value, change)]


def through(function: Callable[[float], float], interval: Interval) -> Interval:
    """The interval of an increasing or decreasing function of the estimate."""

    def at(value: float) -> float:
        try:
            return function(value)
        except OverflowError:  # what grows beyond all numbers has no limit
            return math.inf

    estimate = at(interval.estimate)
    low, high = sorted((at(interval.low), at(interval.high)))
    detectable = abs(at(interval.estimate + interval.detectable) - estimate)
    return replace(interval, estimate=estimate, low=low, high=high, detectable=detectable)
