"""Turns a cell's record and its dense counterpart into metrics with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.stats import (
    Interval,
    mcnemar,
    paired_mean,
    paired_proportion,
    paired_ratio,
    proportion,
)
from pytest_sparsity.sweep.cell import GENERATION, OFF, PERPLEXITY, TASK, Cell
from pytest_sparsity.sweep.record import Record


@dataclass(frozen=True)
class Comparison:
    """One metric of one cell.

    Attributes:
        cell: what was measured.
        metric: its name, see the table below.
        value: the metric itself.
        change: the damage against dense on the same documents or items, positive when
            worse; None for the dense model itself.
        p_value: exact McNemar test, for accuracies.
        chance: accuracy of guessing, for accuracies.

    ==================== ============================= =================================
    metric               value                         change
    ==================== ============================= =================================
    perplexity:CORPUS    exp(mean NLL per token)       relative: 0.03 is +3 %
    kl:CORPUS            KL(dense || sparse), nats     the same
    agreement:CORPUS     share of tokens whose most    1 - value
                         likely next token is dense's
    recovery:CORPUS      share of the method's loss    none: it is a gain, not a damage
                         in log-perplexity that SPON
                         wins back
    accuracy:TASK        share of items right          drop, in share: 0.02 is 2 points
    path:generation      greedy tokens before the      share of tokens off the path
                         first one off dense's path
    ==================== ============================= =================================
    """

    cell: Cell
    metric: str
    value: Interval
    change: Interval | None = None
    p_value: float | None = None
    chance: float | None = None


def compare(
    record: Record, dense: Record, without_spon: Record | None, *, seed: int
) -> list[Comparison]:
    """All metrics of ``record``.

    Args:
        record: of any cell.
        dense: the same evaluation of the dense model; may be ``record`` itself.
        without_spon: the same evaluation with SPON off, when ``record`` has it on.
        seed: of the bootstrap.
    """
    kind = record.cell.kind
    if kind == PERPLEXITY:
        return _perplexity(record, dense, without_spon, seed)
    if kind == GENERATION:
        return _path(record, seed)
    return _accuracy(record, dense)


def evaluation_of(metric: str) -> str:
    """The evaluation that measures ``metric``: ``task:sva`` for ``accuracy:sva``."""
    name, _, subject = metric.partition(":")
    kind = {"accuracy": f"{TASK}:", "path": ""}.get(name, f"{PERPLEXITY}:")
    return f"{kind}{subject}"


def perplexity_change(record: Record, base: Record, *, seed: int) -> Interval:
    """Relative change of perplexity from ``base`` to ``record``: 0.03 is +3 %.

    Paired: exp(mean difference of NLL per token) - 1 over the documents both have, with a
    bootstrap over documents.
    """
    pairs = _paired(record, base)
    difference = paired_mean(
        [_nll(after) - _nll(before) for after, before in pairs],
        [float(after["tokens"]) for after, _ in pairs],
        seed=seed,
    )
    return _through(math.expm1, difference)


def _paired(*records: Record) -> list[tuple[dict[str, Any], ...]]:
    """The documents or items that all records have, by id."""
    by_id = [{unit["id"]: unit for unit in record.units} for record in records]
    common = [i for i in by_id[0] if all(i in other for other in by_id[1:])]
    return [tuple(units[i] for units in by_id) for i in common]


def _nll(document: dict[str, Any]) -> float:
    return -math.fsum(document["log_likelihoods"])


def _perplexity(
    record: Record, dense: Record, without_spon: Record | None, seed: int
) -> list[Comparison]:
    cell, corpus = record.cell, record.cell.subject
    own = record.units
    tokens = [float(d["tokens"]) for d in own]
    value = _through(math.exp, paired_mean([_nll(d) for d in own], tokens, seed=seed))
    if cell == dense.cell:
        return [Comparison(cell, f"perplexity:{corpus}", value)]
    divergence = paired_mean([d["kl"] for d in own], tokens, seed=seed)
    agreement = paired_mean([float(d["agreement"]) for d in own], tokens, seed=seed)
    found = [
        Comparison(
            cell, f"perplexity:{corpus}", value, perplexity_change(record, dense, seed=seed)
        ),
        Comparison(cell, f"kl:{corpus}", divergence, divergence),
        Comparison(cell, f"agreement:{corpus}", agreement, _through(lambda x: 1 - x, agreement)),
    ]
    if cell.configuration.spon != OFF and without_spon is not None:
        triples = _paired(record, dense, without_spon)
        recovered = paired_ratio(
            [_nll(off) - _nll(on) for on, _, off in triples],
            [_nll(off) - _nll(reference) for _, reference, off in triples],
            seed=seed,
        )
        found.append(Comparison(cell, f"recovery:{corpus}", recovered))
    return found


def _accuracy(record: Record, dense: Record) -> list[Comparison]:
    def right(item: dict[str, Any]) -> bool:
        return bool(
            item["right" if record.measured["normalisation"] == "sum" else "right_normalised"]
        )

    metric = f"accuracy:{record.cell.subject}"
    own = [right(item) for item in record.units]
    value, chance = proportion(sum(own), len(own)), float(record.measured["chance"])
    if record.cell == dense.cell:
        return [Comparison(record.cell, metric, value, chance=chance)]
    pairs = _paired(dense, record)
    before, after = [right(d) for d, _ in pairs], [right(s) for _, s in pairs]
    drop, p_value = paired_proportion(before, after), mcnemar(before, after)
    return [Comparison(record.cell, metric, value, drop, p_value, chance)]


def _path(record: Record, seed: int) -> list[Comparison]:
    prompts = record.units
    steps = [
        float(p["tokens"] if p["first_divergence"] is None else p["first_divergence"])
        for p in prompts
    ]
    value = paired_mean(steps, seed=seed)
    change = None
    if record.cell.configuration.method != "dense":
        change = paired_mean(
            [1 - step / p["tokens"] for step, p in zip(steps, prompts, strict=True)], seed=seed
        )
    return [Comparison(record.cell, "path:generation", value, change)]


def _through(function: Callable[[float], float], interval: Interval) -> Interval:
    """The interval of a monotone function of the estimate."""
    estimate = function(interval.estimate)
    low, high = sorted((function(interval.low), function(interval.high)))
    detectable = abs(function(interval.estimate + interval.detectable) - estimate)
    return replace(interval, estimate=estimate, low=low, high=high, detectable=detectable)
