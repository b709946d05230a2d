"""Measures the cells of tasks: choices, generated answers, answers after a chain, divergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.answers import score_answers
from pytest_sparsity.evaluation.choice import score_items
from pytest_sparsity.evaluation.evidence import refusal
from pytest_sparsity.evaluation.exact_match import generate_answers
from pytest_sparsity.evaluation.harness import HarnessTask, score_harness
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.probes import make_probes, score_probes
from pytest_sparsity.evaluation.tasks import TASKS, Task
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.bench import Bench
from pytest_sparsity.sweep.cell import ANSWER_LIKELIHOOD, DIVERGENCE, EXACT_MATCH, TASK, Cell
from pytest_sparsity.sweep.record import is_right

Units = list[dict[str, Any]]
Scorer = Callable[[Bench, Cell, LanguageModel, Task, Sequence[Item]], Units]

#: The kinds of tasks that each kind of evaluation can score.
_KINDS = {
    TASK: ("choice", "last_word"),
    EXACT_MATCH: ("choice", "last_word", "chain"),
    ANSWER_LIKELIHOOD: ("chain",),
    DIVERGENCE: ("chain",),
}


def measure_task(
    bench: Bench, cell: Cell, draws: int, have: Sequence[dict[str, Any]], model: LanguageModel
) -> dict[str, Any]:
    """What ``cell`` measures, besides the items that it ``have``s, per item.

    Returns:
        ``items``, ``normalisation``, ``chance`` and ``family``.  Of the dense model also
        ``refused``: why the task is no evidence on this model; empty if it is.

    Raises:
        SparsityError: the task is of a kind that the evaluation cannot score, an item is too
            long, or the model gives NaN.
    """
    task = checked_task(bench, cell.evaluation)
    size, items = cell.units(bench.settings.sizes), list(have)
    # Each draw is packed by itself: what an item scores must not depend on how many draws
    # were asked for at once.
    for start in range(len(items), min(size * draws, len(task.items)), size):
        stop = start + size
        if isinstance(task, HarnessTask):
            items += score_harness(model, task, task.items[start:stop], share=bench.sharing)
        else:
            items += _SCORERS[cell.kind](bench, cell, model, task, task.items[start:stop])
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


def checked_task(bench: Bench, evaluation: str) -> Task | HarnessTask:
    """The task of ``KIND:TASK``.

    Raises:
        SparsityError: there is no such task, or it is of a kind that the evaluation cannot score.
    """
    kind, _, name = evaluation.partition(":")
    task = bench.task(name)
    if isinstance(task, HarnessTask):
        if kind != TASK:
            raise SparsityError(
                f"--sparsity-tasks: {evaluation}: lm-eval scores its own tasks; leave out "
                f"{kind}: before it"
            )
    elif task.kind not in _KINDS[kind]:
        able = [known for known, spec in TASKS.items() if spec.kind in _KINDS[kind]]
        has = "no reference" if "chain" in _KINDS[kind] else "only reference"
        raise SparsityError(
            f"--sparsity-tasks: {evaluation}: task {task.name} has {has} chains of thought, and "
            f"cannot be measured by {kind}; tasks that can are {', '.join(able)}"
        )
    return task


def _choice(
    bench: Bench, cell: Cell, model: LanguageModel, task: Task, items: Sequence[Item]
) -> Units:
    return score_items(model, task, items, share=bench.sharing)


def _exact_match(
    bench: Bench, cell: Cell, model: LanguageModel, task: Task, items: Sequence[Item]
) -> Units:
    return generate_answers(model, task, items, share=bench.sharing)


def _answers(
    bench: Bench, cell: Cell, model: LanguageModel, task: Task, items: Sequence[Item]
) -> Units:
    return score_answers(model, task, items, share=bench.sharing)


def _divergence(
    bench: Bench, cell: Cell, model: LanguageModel, task: Task, items: Sequence[Item]
) -> Units:
    documents = bench.evaluation_corpus(bench.settings.corpora[0]).documents
    probes = make_probes(model, task, items, documents)
    reference = None
    if not cell.configuration.is_reference:
        reference = bench.probe_states(cell.configuration.model, task.name, probes)
    dense = bench.model(cell.configuration.model)
    return score_probes(model, task, probes, reference, dense, share=bench.sharing)


_SCORERS: Mapping[str, Scorer] = {
    TASK: _choice,
    EXACT_MATCH: _exact_match,
    ANSWER_LIKELIHOOD: _answers,
    DIVERGENCE: _divergence,
}
