"""Metrics of the evaluations of tasks, with paired intervals; see :mod:`.comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_sparsity.core.statistics import (
    Bounds,
    Interval,
    mcnemar,
    paired_mean,
    paired_proportion,
    paired_ratio,
    proportion,
)
from pytest_sparsity.evaluation.evidence import refusal
from pytest_sparsity.evaluation.generation import first_divergence
from pytest_sparsity.sweep.cell import ANSWER_LIKELIHOOD, DIVERGENCE, EXACT_MATCH
from pytest_sparsity.sweep.metric import NOT_NEGATIVE, SHARE, Comparison, paired
from pytest_sparsity.sweep.record import Record, is_right

Unit = Mapping[str, Any]


def task_metrics(record: Record, dense: Record, seed: int, looks: int = 1) -> list[Comparison]:
    """All metrics of a task's cell; of the dense model if the two records are one."""
    kind, subject = record.cell.kind, record.cell.subject
    if kind == EXACT_MATCH:
        return [
            _share(f"exact_match:{subject}", record, dense, looks),
            _path(record, dense, seed, looks),
        ]
    if kind == ANSWER_LIKELIHOOD:
        greedy = _share(f"answer_greedy:{subject}", record, dense, looks)
        parts = [_likelihood(part, record, dense, seed, looks) for part in ("answer", "chain")]
        return [greedy, *(replace(part, refused=greedy.refused) for part in parts)]
    if kind == DIVERGENCE:
        return _divergence(record, dense, seed, looks)
    return [_share(f"accuracy:{subject}", record, dense, looks)]


def _share(metric: str, record: Record, dense: Record, looks: int) -> Comparison:
    """Share of items right, and how many fewer than of the dense model."""
    measured = record.measured
    own = [is_right(measured, item) for item in record.units]
    value, chance = proportion(sum(own), len(own), looks=looks), float(measured["chance"])
    reference = [is_right(measured, item) for item in dense.units]
    refused = refusal(sum(reference), len(reference), chance)
    if record.cell == dense.cell:
        return Comparison(record.cell, metric, value, chance=chance, refused=refused)
    pairs = paired(dense, record)
    before = [is_right(measured, d) for d, _ in pairs]
    after = [is_right(measured, s) for _, s in pairs]
    drop, p_value = paired_proportion(before, after, looks=looks), mcnemar(before, after)
    return Comparison(
        record.cell, metric, value, drop, p_value, chance, refused, dense=sum(before) / len(before)
    )


def _path(record: Record, dense: Record, seed: int, looks: int) -> Comparison:
    """Number of generated tokens before the first that differs from the dense model's text.

    The dense model's text need not be right for that, so no task is refused.
    """
    metric = f"path:{record.cell.subject}"
    if record.cell == dense.cell:
        lengths = [float(len(item["path"])) for item in record.units]
        longest = max(1.0, *lengths)
        value = paired_mean(lengths, seed=seed, looks=looks, bounds=(0, longest))
        return Comparison(record.cell, metric, value)
    steps, off, longest = [], [], 1.0
    for own, reference in paired(record, dense):
        length = len(reference["path"])
        step = first_divergence(own["path"], reference["path"])
        longest = max(longest, length)
        steps.append(float(length if step is None else step))
        off.append(0.0 if step is None else 1 - min(step, length) / max(length, 1))
    value = paired_mean(steps, seed=seed, looks=looks, bounds=(0, longest))
    return Comparison(
        record.cell, metric, value, paired_mean(off, seed=seed, looks=looks, bounds=SHARE)
    )


def _likelihood(part: str, record: Record, dense: Record, seed: int, looks: int) -> Comparison:
    """Mean negative log-likelihood per token of the answer or the chain, and its increase."""
    metric = f"{part}_nll:{record.cell.subject}"

    def mean(
        values: Sequence[float], units: Sequence[Unit], bounds: Bounds | None = None
    ) -> Interval:
        tokens = [float(unit[f"{part}_tokens"]) for unit in units]
        return paired_mean(values, tokens, seed=seed, looks=looks, bounds=bounds)

    value = mean([-unit[part] for unit in record.units], record.units, NOT_NEGATIVE)
    if record.cell == dense.cell:
        return Comparison(record.cell, metric, value)
    pairs = paired(dense, record)
    change = mean([before[part] - after[part] for before, after in pairs], [d for d, _ in pairs])
    of_dense = math.fsum(-before[part] for before, _ in pairs)
    tokens = math.fsum(before[f"{part}_tokens"] for before, _ in pairs)
    return Comparison(record.cell, metric, value, change, dense=of_dense / tokens)


def _divergence(record: Record, dense: Record, seed: int, looks: int) -> list[Comparison]:
    """KL(dense || sparse) per token on reasoning and on prose, and their ratio over the items."""
    cell, units = record.cell, record.units
    tokens = [float(unit["tokens"]) for unit in units]
    sums = {part: [unit[part]["kl"] for unit in units] for part in ("reasoning", "prose")}
    means = {
        part: paired_mean(values, tokens, seed=seed, looks=looks, bounds=NOT_NEGATIVE)
        for part, values in sums.items()
    }
    if cell == dense.cell:
        return [Comparison(cell, f"kl_{part}:{cell.subject}", m) for part, m in means.items()]
    found = [Comparison(cell, f"kl_{part}:{cell.subject}", m, m) for part, m in means.items()]
    ratio = paired_ratio(
        sums["reasoning"], sums["prose"], seed=seed, looks=looks, bounds=NOT_NEGATIVE
    )
    return [*found, Comparison(cell, f"kl_ratio:{cell.subject}", ratio)]
