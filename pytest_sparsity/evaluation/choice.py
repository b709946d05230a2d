"""Multiple choice by likelihood, and the last word of a passage by greedy decoding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.evaluation.trie import Pack, pack
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states, in_rows, log_probabilities
from pytest_sparsity.models.parallel import in_parallel

_PACK = 512  # nodes per forward pass: long enough to keep the matrix products efficient


@dataclass(frozen=True)
class _Choice:
    """Tokens of a context and one of its choices, and where the choice starts."""

    tokens: list[int]
    start: int


@dataclass(frozen=True)
class _Score:
    """Log-likelihood of a choice in nats, and whether greedy decoding produces it."""

    log_likelihood: float
    greedy: bool


def score_items(
    model: LanguageModel,
    task: Task,
    items: Sequence[Item],
    on_done: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Score every item on all cores; shared prefixes are run once per pack.

    Args:
        model: dense or with a plan attached.
        task: whose items these are.
        items: which items.
        on_done: called with the number of items just finished.

    Returns:
        Per item ``id``, ``gold``, ``scores`` (log-likelihood of each choice after the
        context, nats), ``tokens`` and ``chars`` (length of each choice), ``right`` (the
        likeliest choice is gold; for ``last_word``: greedy decoding gives the word) and
        ``right_normalised`` (likeliest per token or per character, as the task says).

    Raises:
        SparsityError: a log-likelihood is not finite, or an item is too long for the model.
    """
    groups = [[_encode(model, item.context, choice) for choice in item.choices] for item in items]
    _check_lengths(model, task, items, groups)
    packs = list(pack([[choice.tokens for choice in group] for group in groups], _PACK))
    ends = list(itertools.accumulate(members for _, members in packs))
    work = [
        (tree, groups[end - members : end])
        for (tree, members), end in zip(packs, ends, strict=True)
    ]
    results: list[dict[str, Any]] = []
    for scored in in_parallel(lambda w: _score_pack(model, *w), work, device=model.device):
        for scores in scored:
            index = len(results)
            results.append(_result(model, task, items[index], groups[index], scores))
        if on_done is not None:
            on_done(len(scored))
    return results


def _encode(model: LanguageModel, context: str, choice: str) -> _Choice:
    # The choice starts where the tokens of the context alone end (the rule of lm-eval).
    before = model.tokenizer(context, add_special_tokens=False).input_ids
    whole = model.tokenizer(context + choice, add_special_tokens=False).input_ids
    lead = [] if model.bos is None else [model.bos]
    return _Choice([*lead, *whole], len(lead) + len(before))


def _check_lengths(
    model: LanguageModel, task: Task, items: Sequence[Item], groups: Sequence[Sequence[_Choice]]
) -> None:
    # Packed trees attend to all ancestors, so a sequence must fit a sliding window as well.
    limits = [
        getattr(model.model.config, name, None)
        for name in ("max_position_embeddings", "sliding_window")
    ]
    limit = min((n for n in limits if n), default=None)
    for item, group in zip(items, groups, strict=True):
        longest = max(len(choice.tokens) for choice in group)
        if limit is not None and longest > limit:
            raise SparsityError(
                f"item {item.id} of task {task.name} has {longest} tokens, more than the "
                f"{limit} that model {model.name} attends to; leave it out of --sparsity-tasks"
            )
        if min(choice.start for choice in group) < 1 or any(
            choice.start >= len(choice.tokens) for choice in group
        ):
            raise SparsityError(
                f"item {item.id} of task {task.name} has an empty context or choice once "
                f"tokenised for {model.name}; mend the task file"
            )


def _score_pack(
    model: LanguageModel, tree: Pack, groups: Sequence[Sequence[_Choice]]
) -> list[list[_Score]]:
    """Scores of the choices of every item in ``tree``, in the order they were added."""
    hidden = hidden_states(
        model, torch.tensor(tree.tokens), torch.tensor(tree.depths), tree.mask(model.dtype)
    )
    choices = [choice for group in groups for choice in group]
    predictors = sorted(
        {
            path[k - 1]
            for path, choice in zip(tree.paths, choices, strict=True)
            for k in range(choice.start, len(path))
        }
    )
    row_of = {node: row for row, node in enumerate(predictors)}
    wanted: list[list[tuple[int, int]]] = [
        [(row_of[path[k - 1]], choice.tokens[k]) for k in range(choice.start, len(path))]
        for path, choice in zip(tree.paths, choices, strict=True)
    ]
    targets: dict[int, set[int]] = {}
    for row, token in itertools.chain.from_iterable(wanted):
        targets.setdefault(row, set()).add(token)
    likelihood: dict[tuple[int, int], float] = {}
    likeliest: list[int] = []
    with torch.inference_mode():
        for rows in in_rows(len(predictors)):
            values = log_probabilities(model, hidden[predictors[rows]])
            likeliest += values.argmax(-1).tolist()
            for row in range(rows.start, rows.stop):
                local = row - rows.start
                for token in targets[row]:
                    likelihood[row, token] = float(values[local, token])
    scores = iter(
        [
            _Score(
                math.fsum(likelihood[step] for step in steps),
                all(likeliest[row] == token for row, token in steps),
            )
            for steps in wanted
        ]
    )
    return [[next(scores) for _ in group] for group in groups]


def _result(
    model: LanguageModel, task: Task, item: Item, group: Sequence[_Choice], scores: Sequence[_Score]
) -> dict[str, Any]:
    raw = [score.log_likelihood for score in scores]
    if not all(map(math.isfinite, raw)):
        raise SparsityError(
            f"model {model.name} gives a log-likelihood that is not finite (NaN logits) on item "
            f"{item.id} of task {task.name}; the weights or the sparse plan are broken"
        )
    tokens = [len(choice.tokens) - choice.start for choice in group]
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
