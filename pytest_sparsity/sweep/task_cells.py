"""Measures the cells of tasks: choices, generated answers, answers after a chain, divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_sparsity.evaluation.answers import score_answers
from pytest_sparsity.evaluation.choice import score_items
from pytest_sparsity.evaluation.evidence import refusal
from pytest_sparsity.evaluation.exact_match import generate_answers
from pytest_sparsity.evaluation.harness import HarnessTask, score_harness
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.probes import make_probes, score_probes
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.cell import ANSWER_LIKELIHOOD, DIVERGENCE, EXACT_MATCH, TASK
from pytest_sparsity.sweep.inputs import CellInputs, DivergenceInputs, TaskInputs
from pytest_sparsity.sweep.record import is_right

Units = list[dict[str, Any]]


class _Scorer(Protocol):
    def __call__(
        self, model: LanguageModel, task: Task, items: Sequence[Item], *, share: bool
    ) -> Units: ...


#: By kind of evaluation; divergence needs more than a model and items.
_SCORERS: Mapping[str, _Scorer] = {
    TASK: score_items,
    EXACT_MATCH: generate_answers,
    ANSWER_LIKELIHOOD: score_answers,
}


def measure_task(
    inputs: CellInputs,
    evaluation: TaskInputs,
    draws: int,
    have: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What a cell measures, besides the items that it ``have``s, per item.

    Args:
        inputs: of the cell.
        evaluation: those of its task.
        draws: how often the first amount of items is drawn.
        have: the first items as they were measured before.

    Returns:
        ``items``, ``normalisation``, ``chance`` and ``family``.  Of the dense model also
        ``refused``: why the task is no evidence on this model; empty if it is.

    Raises:
        SparsityError: an item is too long, or the model gives NaN.
    """
    cell, task, size = inputs.cell, evaluation.task, evaluation.draw
    items = list(have)
    # Each draw is packed by itself: what an item scores must not depend on how many draws
    # were asked for at once.
    for start in range(len(items), min(size * draws, len(task.items)), size):
        items += _scored(inputs, evaluation, start, start + size)
    # Who generates an answer does not see the choices.
    chance = task.chance
    if cell.kind == EXACT_MATCH and isinstance(task, Task):
        chance = task.written_chance
    measured: dict[str, Any] = {
        "items": items,
        "normalisation": task.normalisation if cell.kind == TASK else "sum",
        "chance": chance,
        "family": task.family,
    }
    if cell.configuration.is_reference and all("right" in item for item in items):
        right = sum(is_right(measured, item) for item in items)
        measured["refused"] = refusal(right, len(items), chance)
    return measured


def task_tokens(kind: str, items: Sequence[Mapping[str, Any]]) -> int:
    """Tokens that an evaluation of this kind scored or generated."""
    if kind == EXACT_MATCH:
        return sum(item["prompt_tokens"] + len(item["path"]) for item in items)
    if kind == ANSWER_LIKELIHOOD:
        return sum(item["chain_tokens"] + item["answer_tokens"] for item in items)
    if kind == DIVERGENCE:
        return sum(2 * item["tokens"] for item in items)
    return sum(sum(item["tokens"]) for item in items)


def _scored(inputs: CellInputs, evaluation: TaskInputs, start: int, stop: int) -> Units:
    """The items of a task from ``start`` to ``stop``."""
    model, task, share = inputs.model, evaluation.task, evaluation.share
    if isinstance(task, HarnessTask):
        return score_harness(model, task, task.items[start:stop], share=share)
    items = task.items[start:stop]
    if isinstance(evaluation, DivergenceInputs):
        probes = make_probes(model, task, items, evaluation.prose)
        states = None if evaluation.states is None else evaluation.states.of(probes)
        return score_probes(model, task, probes, states, inputs.dense, share=share)
    return _SCORERS[inputs.cell.kind](model, task, items, share=share)
