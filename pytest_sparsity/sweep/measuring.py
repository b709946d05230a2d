"""Measures one cell: runs its evaluation on the model as configured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_sparsity.compression.names import LOADED
from pytest_sparsity.core.memory import peak_bytes
from pytest_sparsity.evaluation.generation import continue_greedily, describe_paths
from pytest_sparsity.evaluation.perplexity import score_documents
from pytest_sparsity.methods.attach import Attached, weighted_sparsity
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.bench import Bench
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.task_cells import measure_task, task_tokens

Counts = dict[str, tuple[int, int]]


def measure(
    bench: Bench, cell: Cell, draws: int, known: Record | None, key: dict[str, Any]
) -> Record:
    """Measure ``cell`` on ``draws`` times the profile's amount of data.

    Args:
        bench: models, text and plans.
        cell: what to measure.
        draws: how often the first amount is drawn, see :class:`~..options.Sizes`.
        known: a record of the same key with less data; only what it lacks is measured.
        key: the record's key.

    Raises:
        SparsityError: the model gives NaN, or a task is too long for it.
    """
    have = known.units if known is not None else []
    configuration = cell.configuration
    if configuration.method == "dense":
        model, attached = bench.weighted_model(configuration.model, configuration.weights), None
    else:
        model, attached = bench.attached(configuration)
    started = time.monotonic()  # what it took to make the model is with what made it
    if cell.kind == PERPLEXITY:
        measured = _perplexity(bench, cell, draws, have, model, attached)
        if attached is not None:
            before = known.measured["achieved"]["counts"] if known is not None else {}
            measured["achieved"] = _achieved(attached, before)
        tokens = sum(d["tokens"] for d in measured["documents"][len(have) :])
    elif cell.kind == GENERATION:
        measured = _generation(bench, cell, model)
        tokens = sum(p["tokens"] for p in measured["prompts"])
    else:
        measured = measure_task(bench, cell, draws, have, model)
        tokens = task_tokens(cell.kind, measured["items"][len(have) :])
    if attached is not None:
        measured["preparation"] = bench.preparation(configuration)
    if configuration.weights != LOADED:
        measured["compression"] = bench.compressed(configuration).provenance
    cost = {"seconds": round(time.monotonic() - started, 3), "tokens": tokens}
    if known is not None:
        cost = {name: round(value + known.cost[name], 3) for name, value in cost.items()}
    cost["peak_bytes"] = peak_bytes()
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(cell, key, measured, cost, when)


def enough(bench: Bench, cell: Cell, draws: int, record: Record) -> bool:
    """Whether ``record`` holds as much data as ``draws`` draws give."""
    if cell.kind == GENERATION:
        return True
    if cell.kind == PERPLEXITY:
        available = len(bench.windows(cell.configuration.model, cell.subject))
    else:
        available = len(bench.task(cell.subject).items)
    return len(record.units) >= min(cell.units(bench.settings.sizes) * draws, available)


def _perplexity(
    bench: Bench,
    cell: Cell,
    draws: int,
    have: Sequence[dict[str, Any]],
    model: LanguageModel,
    attached: Attached | None,
) -> dict[str, Any]:
    name = cell.configuration.model
    chosen = bench.windows(name, cell.subject)[: cell.units(bench.settings.sizes) * draws]
    fresh = chosen[len(have) :]
    reference = None
    if not cell.configuration.is_reference:
        reference = bench.dense_states(name, cell.subject, fresh)
    if attached is not None:
        attached.achieved.reset()
        attached.counting = True
    try:
        scored = score_documents(model, fresh, reference, dense=bench.model(name))
    finally:
        if attached is not None:
            attached.counting = False
    return {"documents": [*have, *scored]}


def _achieved(attached: Attached, before: Counts) -> dict[str, Any]:
    """What is skipped: per site (skipped, seen), and the fraction of the model's weights.

    ``net`` is the fraction less the weights that are read to decide, as of a predictor, and
    ``neurons`` that of all neurons, where these are selected.
    ``plateau`` names sites whose target is below their rate of natural zeros, where lower
    targets change nothing.
    """
    counts = {
        site: (zeros + before.get(site, (0, 0))[0], seen + before.get(site, (0, 0))[1])
        for site, (zeros, seen) in attached.achieved.counts.items()
    }
    weights, deciding = attached.achieved.weights, attached.achieved.deciding
    weighted = weighted_sparsity(counts, weights)
    return {
        "weighted": weighted,
        "net": weighted - deciding / sum(weights.values()),
        "counts": counts,
        "neurons": _neurons(attached, counts),
        "plateau": list(attached.plan.plateau),
    }


def _neurons(attached: Attached, counts: Counts) -> float | None:
    own = [counts[name] for name in attached.plan.neurons if name in counts]
    seen = sum(total for _, total in own)
    return sum(dropped for dropped, _ in own) / seen if seen else None


def _generation(bench: Bench, cell: Cell, model: LanguageModel) -> dict[str, Any]:
    prompts = bench.prompts(cell.configuration.model)
    new_tokens = bench.settings.sizes.new_tokens
    dense = bench.dense_paths(cell.configuration.model)
    paths = dense
    if not cell.configuration.is_reference:
        paths = continue_greedily(model, prompts, new_tokens)
    return {"prompts": describe_paths(model, prompts, paths, dense)}
