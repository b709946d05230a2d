"""Log-likelihoods of texts after contexts; prefixes that texts share are run once per pack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
from pytest_sparsity.models.packing import packing
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.tokens import position_limit, text_tokens

_PACK = 512  # nodes per forward pass: long enough to keep the matrix products efficient
_BATCH = 4  # sequences of one length per forward pass, where they are not packed
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
    """Tokens that a window or a prompt may have; None for no limit.

    A sliding window is one: what lm-eval is told decides where it cuts texts into windows.
    """
    window = getattr(model.model.config.get_text_config(), "sliding_window", None)
    return min((n for n in (position_limit(model), window) if n), default=None)


def check_spans(
    model: LanguageModel, task: str, items: Sequence[Item], groups: Sequence[Sequence[Span]]
) -> None:
    """See that every span can be scored.

    Raises:
        SparsityError: one is too long for the model, or has no context or no text.
    """
    # What is longer than a window of attention is scored by itself.
    limit = position_limit(model)
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
    task) is run once for all packs.  A group that the model cannot pack is scored by itself.

    Args:
        model: dense or with a plan attached.
        groups: spans that begin alike, such as the choices of a question.
        share: whether the common beginning may be run by itself: not with a prefill policy
            by which it matters how much follows.
    """
    how = packing(model)
    spans = [span for group in groups for span in group]
    shared, prefix = run_shared(model, spans) if share else (0, None)

    def packs(group: Sequence[Span]) -> bool:
        return how.may_pack(max(len(span.tokens) for span in group))

    work: list[Callable[[], list[list[Score]]]] = []
    for packable, some in itertools.groupby(groups, packs):
        together = list(some)
        if not packable:
            work += [
                partial(_score_alone, model, group, shared, prefix, share) for group in together
            ]
            continue
        trees = list(pack([[span.tokens[shared:] for span in group] for group in together], _PACK))
        ends = itertools.accumulate(members for _, members in trees)
        work += [
            partial(_score_pack, model, tree, together[end - members : end], shared, prefix)
            for (tree, members), end in zip(trees, ends, strict=True)
        ]
    yield from in_parallel(lambda score: score(), work, device=model.device)


def run_shared(model: LanguageModel, spans: Sequence[Span]) -> tuple[int, Any]:
    """Run what all spans begin with, before any of their texts.

    Returns:
        (how many tokens that is, their cache for :func:`hidden_states`); (0, None) if it is
        not worth a pass of its own.
    """
    shared = _common(spans) if packing(model).beginnings else 0
    if shared < _SHARED:
        return 0, None
    tokens = torch.tensor(spans[0].tokens[:shared])
    # By itself, and still like everything else: on one thread.
    (prefix,) = in_parallel(lambda t: run_prefix(model, t), [tokens], device=model.device)
    return shared, prefix


def _common(spans: Sequence[Span]) -> int:
    """Tokens that all spans begin with, before any of their texts."""
    # The last token before a text predicts it, and is run with it.
    return common_prefix([span.tokens[: span.start - 1] for span in spans])


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
    wanted = [
        [(path[k - 1], span.tokens[shared + k]) for k in range(span.start - shared, len(path))]
        for path, span in zip(tree.paths, spans, strict=True)
    ]
    scores = iter(_read(model, hidden, wanted))
    return [[next(scores) for _ in group] for group in groups]


def _score_alone(
    model: LanguageModel, group: Sequence[Span], shared: int, prefix: Any, share: bool
) -> list[list[Score]]:
    """Scores of one group whose spans are not packed: those of one length make a batch.

    What they have in common is run once where the model can go on from its cache; ``prefix`` is
    that of their first ``shared`` tokens.
    """
    how, common = packing(model), _common(group)
    regimes = {how.regime(len(span.tokens)) for span in group}
    if regimes != {how.regime(shared)}:
        shared, prefix = 0, None
    worth = common - shared >= _SHARED and len(group) > 1
    if share and how.beginnings and worth and regimes == {how.regime(common)}:
        tokens = torch.tensor(group[0].tokens[shared:common])
        shared, prefix = common, run_prefix(model, tokens, prefix)
    found: dict[int, Score] = {}
    order = sorted(range(len(group)), key=lambda index: len(group[index].tokens))
    for _, members in itertools.groupby(order, lambda index: len(group[index].tokens)):
        alike = list(members)
        for batch in (alike[i : i + _BATCH] for i in range(0, len(alike), _BATCH)):
            spans = [group[index] for index in batch]
            rows = torch.tensor([span.tokens[shared:] for span in spans])
            hidden = hidden_states(model, rows, prefix=prefix)
            length = rows.shape[1]
            wanted = [
                [
                    (number * length + k - 1 - shared, span.tokens[k])
                    for k in range(span.start, len(span.tokens))
                ]
                for number, span in enumerate(spans)
            ]
            found |= zip(batch, _read(model, hidden.flatten(0, 1), wanted), strict=True)
    return [[found[index] for index in range(len(group))]]


def _read(
    model: LanguageModel, hidden: torch.Tensor, wanted: Sequence[Sequence[tuple[int, int]]]
) -> list[Score]:
    """Scores of texts from hidden states [R, H]: per token its predictor's row, and itself."""
    predictors = sorted({node for steps in wanted for node, _ in steps})
    row_of = {node: row for row, node in enumerate(predictors)}
    targets: dict[int, set[int]] = {}
    for node, token in itertools.chain.from_iterable(wanted):
        targets.setdefault(row_of[node], set()).add(token)
    likelihood: dict[tuple[int, int], float] = {}
    likeliest: list[int] = []
    with torch.inference_mode():
        for rows, values in log_probabilities(model, hidden[predictors]):
            likeliest += values.argmax(-1).tolist()
            for row in range(rows.start, rows.stop):
                local = row - rows.start
                for token in targets[row]:
                    likelihood[row, token] = float(values[local, token])
    return [
        Score(
            math.fsum(likelihood[row_of[node], token] for node, token in steps),
            all(likeliest[row_of[node]] == token for node, token in steps),
        )
        for steps in wanted
    ]
