"""Multiple choice by likelihood, and the last word of a passage by greedy decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.scoring import (
    Score,
    Span,
    check_finite,
    check_spans,
    encode,
    score_spans,
)
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.models import LanguageModel


def score_items(
    model: LanguageModel,
    task: Task,
    items: Sequence[Item],
    on_done: Callable[[int], None] | None = None,
    *,
    share: bool = True,
) -> list[dict[str, Any]]:
    """Score every item on all cores; shared prefixes are run once per pack.

    Args:
        model: dense or with a plan attached.
        task: whose items these are.
        items: which items.
        on_done: called with the number of items just finished.
        share: as for :func:`~.scoring.score_spans`.

    Returns:
        Per item ``id``, ``gold``, ``scores`` (log-likelihood of each choice after the
        context, nats), ``tokens`` and ``chars`` (length of each choice), ``right`` (the
        likeliest choice is gold; for ``last_word``: greedy decoding gives the word) and
        ``right_normalised`` (likeliest per token or per character, as the task says).

    Raises:
        SparsityError: a log-likelihood is not finite, or an item is too long for the model.
    """
    groups = [[encode(model, item.context, choice) for choice in item.choices] for item in items]
    check_spans(model, task.name, items, groups)
    results: list[dict[str, Any]] = []
    for scored in score_spans(model, groups, share=share):
        for scores in scored:
            index = len(results)
            results.append(_result(model, task, items[index], groups[index], scores))
        if on_done is not None:
            on_done(len(scored))
    return results


def _result(
    model: LanguageModel, task: Task, item: Item, group: Sequence[Span], scores: Sequence[Score]
) -> dict[str, Any]:
    raw = [score.log_likelihood for score in scores]
    check_finite(model, f"item {item.id} of task {task.name}", raw)
    tokens = [len(span.tokens) - span.start for span in group]
    chars = [len(choice.strip()) for choice in item.choices]
    lengths = chars if task.normalisation == "char" else tokens
    if task.kind == "last_word":
        right = right_normalised = scores[item.gold].greedy
    else:
        right = max(range(len(raw)), key=raw.__getitem__) == item.gold
        normalised = [score / length for score, length in zip(raw, lengths, strict=True)]
        right_normalised = max(range(len(raw)), key=normalised.__getitem__) == item.gold
    return {
        "id": item.id,
        "gold": item.gold,
        "scores": raw,
        "tokens": tokens,
        "chars": chars,
        "right": right,
        "right_normalised": right_normalised,
    }
