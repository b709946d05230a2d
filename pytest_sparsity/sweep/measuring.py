"""Measures one cell: runs its evaluation on what it is given."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_sparsity.core.memory import peak_bytes
from pytest_sparsity.evaluation.generation import continue_greedily, describe_paths
from pytest_sparsity.evaluation.perplexity import score_documents
from pytest_sparsity.methods.attach import Attached, weighted_sparsity
from pytest_sparsity.sweep.inputs import CellInputs, GenerationInputs, TextInputs
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.task_cells import measure_task, task_tokens

Counts = Mapping[str, tuple[int, int]]


def measure(inputs: CellInputs, draws: int, known: Record | None) -> Record:
    """Measure a cell on ``draws`` times the profile's amount of data.

    Args:
        inputs: what it is measured from, see :func:`~.resolve.resolve`.
        draws: how often the first amount is drawn, see :class:`~..settings.settings.Sizes`.
        known: a record of the same key with less data; only what it lacks is measured.

    Raises:
        SparsityError: the model gives NaN, or a task is too long for it.
    """
    have = known.units if known is not None else []
    started = time.monotonic()  # what it took to make the model is with what made it
    evaluation = inputs.evaluation
    if isinstance(evaluation, TextInputs):
        measured = _perplexity(inputs, evaluation, draws, have)
        if inputs.attached is not None:
            before = known.measured["achieved"]["counts"] if known is not None else {}
            measured["achieved"] = _achieved(inputs.attached, before)
        tokens = sum(d["tokens"] for d in measured["documents"][len(have) :])
    elif isinstance(evaluation, GenerationInputs):
        measured = _generation(inputs, evaluation)
        tokens = sum(p["tokens"] for p in measured["prompts"])
    else:
        measured = measure_task(inputs, evaluation, draws, have)
        tokens = task_tokens(inputs.cell.kind, measured["items"][len(have) :])
    measured.update(inputs.facts)
    cost = {"seconds": round(time.monotonic() - started, 3), "tokens": tokens}
    if known is not None:
        cost = {name: round(value + known.cost[name], 3) for name, value in cost.items()}
    cost["peak_bytes"] = peak_bytes()
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(inputs.cell, inputs.key, measured, cost, when)


def _perplexity(
    inputs: CellInputs, text: TextInputs, draws: int, have: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    fresh = text.windows[: text.draw * draws][len(have) :]
    reference = None if text.states is None else text.states.of(fresh)
    attached = inputs.attached
    if attached is not None:
        attached.achieved.reset()
        attached.counting = True
    try:
        scored = score_documents(inputs.model, fresh, reference, dense=inputs.dense)
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
    weights, deciding = attached.achieved.weights_of(counts), attached.achieved.deciding
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


def _generation(inputs: CellInputs, generation: GenerationInputs) -> dict[str, Any]:
    prompts = generation.prompts
    known = generation.paths.of(prompts)
    dense = [known[prompt.id] for prompt in prompts]
    paths = dense
    if not inputs.cell.configuration.is_reference:
        paths = continue_greedily(inputs.model, prompts, generation.new_tokens)
    return {"prompts": describe_paths(inputs.model, prompts, paths, dense)}
