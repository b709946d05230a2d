"""Log-likelihoods of texts after contexts; prefixes that texts share are run once per pack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.trie import Pack, common_prefix, pack
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import (
    hidden_states,
    log_probabilities,
    run_prefix,
)
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.tokens import text_tokens

_PACK = 512  # nodes per forward pass: long enough to keep the matrix products efficient
_SHARED = 16  # tokens of a common beginning that are worth a pass of their own


@dataclass(frozen=True)
class Span:
    """Tokens of a context and of the text after it, and where that text starts."""

    tokens: list[int]
    start: int


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a span's text in nats, and whether greedy decoding produces it."""

    log_likelihood: float
    greedy: bool


def encode(model: LanguageModel, context: str, text: str) -> Span:
    """The text starts where the tokens of the context alone end (the rule of lm-eval)."""
    before, whole = text_tokens(model, context), text_tokens(model, context + text)
    return Span([*model.first_tokens, *whole], len(model.first_tokens) + len(before))


def token_limit(model: LanguageModel) -> int | None:
    """Tokens that a packed sequence may have; None for no limit.

    Packed trees attend to all ancestors, so a sequence must fit a sliding window as well.
    """
    names = ("max_position_embeddings", "sliding_window")
    limits = [getattr(model.model.config, name, None) for name in names]
    return min((n for n in limits if n), default=None)


def check_spans(
    model: LanguageModel, task: str, items: Sequence[Item], groups: Sequence[Sequence[Span]]
) -> None:
    """See that every span can be scored.

    Raises:
        SparsityError: one is too long for the model, or has no context or no text.
    """
    limit = token_limit(model)
    for item, group in zip(items, groups, strict=True):
        longest = max(len(span.tokens) for span in group)
        if limit is not None and longest > limit:
            raise too_long(model, task, item, longest, limit)
        if min(span.start for span in group) < 1 or any(
            span.start >= len(span.tokens) for span in group
        ):
            raise SparsityError(
                f"item {item.id} of task {task} has an empty context or choice once "
                f"tokenised for {model.name}; mend the task file"
            )


def too_long(model: LanguageModel, task: str, item: Item, length: int, limit: int) -> SparsityError:
    """The error for an item of ``length`` tokens where the model attends to ``limit``."""
    return SparsityError(
        f"item {item.id} of task {task} has {length} tokens, more than the "
        f"{limit} that model {model.name} attends to; leave it out of --sparsity-tasks"
    )


def score_spans(
    model: LanguageModel, groups: Sequence[Sequence[Span]], *, share: bool = True
) -> Iterator[list[list[Score]]]:
    """Scores of groups of spans, in order, a pack of groups at a time; on all cores.

    A pack holds every prefix of its spans once, and what all groups begin with (the shots of a
    task) is run once for all packs.

    Args:
        model: dense or with a plan attached.
        groups: spans that begin alike, such as the choices of a question.
        share: whether the common beginning may be run by itself: not with a prefill policy
            by which it matters how much follows.
    """
    spans = [span for group in groups for span in group]
    shared, prefix = run_shared(model, spans) if share else (0, None)
    packs = list(pack([[span.tokens[shared:] for span in group] for group in groups], _PACK))
    ends = list(itertools.accumulate(members for _, members in packs))
    work = [
        (tree, groups[end - members : end])
        for (tree, members), end in zip(packs, ends, strict=True)
    ]
    yield from in_parallel(
        lambda w: _score_pack(model, *w, shared, prefix), work, device=model.device
    )


def run_shared(model: LanguageModel, spans: Sequence[Span]) -> tuple[int, Any]:
    """Run what all spans begin with, before any of their texts.

    Returns:
        (how many tokens that is, their cache for :func:`hidden_states`); (0, None) if it is
        not worth a pass of its own.
    """
    # The last token before a text predicts it, and is run with it.
    contexts = [span.tokens[: span.start - 1] for span in spans]
    shared = common_prefix(contexts) if contexts else 0
    if shared < _SHARED:
        return 0, None
    tokens = torch.tensor(spans[0].tokens[:shared])
    # By itself, and still like everything else: on one thread.
    (prefix,) = in_parallel(lambda t: run_prefix(model, t), [tokens], device=model.device)
    return shared, prefix


def check_finite(model: LanguageModel, where: str, values: Sequence[float]) -> None:
    """See that no log-likelihood is NaN or infinite; ``where`` is named in the message.

    Raises:
        SparsityError: one is.
    """
    if not all(map(math.isfinite, values)):
        raise SparsityError(
            f"model {model.name} gives a log-likelihood that is not finite (NaN logits) on "
            f"{where}; the weights or the sparse plan are broken"
        )


def _score_pack(
    model: LanguageModel,
    tree: Pack,
    groups: Sequence[Sequence[Span]],
    shared: int,
    prefix: Any,
) -> list[list[Score]]:
    """Scores of the spans of every group in ``tree``, in the order they were added.

    The tree holds what comes after the first ``shared`` tokens, whose cache is ``prefix``.
    """
    hidden = hidden_states(
        model,
        torch.tensor(tree.tokens),
        shared + torch.tensor(tree.depths),
        torch.nn.functional.pad(tree.mask(model.dtype), (shared, 0)),  # 0: all see the beginning
        prefix,
    )
    spans = [span for group in groups for span in group]
    predictors = sorted(
        {
            path[k - 1]
            for path, span in zip(tree.paths, spans, strict=True)
            for k in range(span.start - shared, len(path))
        }
    )
    row_of = {node: row for row, node in enumerate(predictors)}
    wanted: list[list[tuple[int, int]]] = [
        [
            (row_of[path[k - 1]], span.tokens[shared + k])
            for k in range(span.start - shared, len(path))
        ]
        for path, span in zip(tree.paths, spans, strict=True)
    ]
    targets: dict[int, set[int]] = {}
    for row, token in itertools.chain.from_iterable(wanted):
        targets.setdefault(row, set()).add(token)
    likelihood: dict[tuple[int, int], float] = {}
    likeliest: list[int] = []
    with torch.inference_mode():
        for rows, values in log_probabilities(model, hidden[predictors]):
            likeliest += values.argmax(-1).tolist()
            for row in range(rows.start, rows.stop):
                local = row - rows.start
                for token in targets[row]:
                    likelihood[row, token] = float(values[local, token])
    scores = iter(
        [
            Score(
                math.fsum(likelihood[step] for step in steps),
                all(likeliest[row] == token for row, token in steps),
            )
            for steps in wanted
        ]
    )
    return [[next(scores) for _ in group] for group in groups]
