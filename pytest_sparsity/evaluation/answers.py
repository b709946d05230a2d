"""Likelihood of the answer after a reference chain of thought, and of the chain itself.

It is teacher-forced: no error of the model is carried on to the next step, so it says less
about a sparse model's reasoning than generating does (papers: Sirius, arXiv 2409.03856), but
it is continuous, and means something where the dense model cannot generate the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.scoring import (
    check_finite,
    check_spans,
    encode,
    score_spans,
)
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.models import LanguageModel


def score_answers(
    model: LanguageModel, task: Task, items: Sequence[Item], *, share: bool = True
) -> list[dict[str, Any]]:
    """Score chain and answer of every item in one pass over it, on all cores.

    Args:
        model: dense or with a plan attached.
        task: of the kind "chain".
        items: which of its items.
        share: as for :func:`~.scoring.score_spans`.

    Returns:
        Per item ``id``, ``chain`` and ``answer`` (log-likelihoods in nats: of the reference
        chain after the question, and of the right answer after both), ``chain_tokens`` and
        ``answer_tokens``, and ``right``: whether what greedy decoding gives after the reference
        chain begins with the answer.

    Raises:
        SparsityError: a log-likelihood is not finite, or an item is too long for the model.
    """
    groups = [
        [
            encode(model, item.context, item.chain),
            encode(model, item.context + item.chain, item.choices[item.gold]),
        ]
        for item in items
    ]
    check_spans(model, task.name, items, groups)
    scores = [scores for scored in score_spans(model, groups, share=share) for scores in scored]
    results = []
    for item, (chain, answer), (chain_score, answer_score) in zip(
        items, groups, scores, strict=True
    ):
        values = [chain_score.log_likelihood, answer_score.log_likelihood]
        check_finite(model, f"item {item.id} of task {task.name}", values)
        results.append(
            {
                "id": item.id,
                "chain": values[0],
                "answer": values[1],
                "chain_tokens": len(chain.tokens) - chain.start,
                "answer_tokens": len(answer.tokens) - answer.start,
                "right": answer_score.greedy,
            }
        )
    return results
