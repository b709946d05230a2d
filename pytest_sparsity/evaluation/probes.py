"""How far a sparse model is from the dense one on reasoning, and on prose at the same place.

Divergence depends on how much text came before, so an item's reasoning is paired with prose
that begins like it does: at position 0, and compared over the very same positions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.scoring import (
    Span,
    check_finite,
    check_spans,
    encode,
    run_shared,
)
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.evaluation.token_scores import score_tokens
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.packing import packing
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.tokens import text_tokens

_BATCH = 4  # texts per forward pass


@dataclass(frozen=True)
class Probe:
    """An item's question with its reference chain and answer, and as much prose.

    Attributes:
        id: the item's.
        reasoning: the chain and the answer after the question.
        prose: of the same length; the text that is compared starts at the same token.
        document: whose beginning that prose is.
    """

    id: str
    reasoning: Span
    prose: Span
    document: str


#: Hidden states of the tokens before those compared, [T, H]: of reasoning and of prose.
States = tuple[torch.Tensor, torch.Tensor]


def make_probes(
    model: LanguageModel, task: Task, items: Sequence[Item], documents: Sequence[Document]
) -> list[Probe]:
    """Pair every item with a document; documents are taken in turn.

    Raises:
        SparsityError: an item is too long for the model, or the document beside it too short.
    """
    spans = [encode(model, item.context, item.chain + item.choices[item.gold]) for item in items]
    check_spans(model, task.name, items, [[span] for span in spans])
    # Where an item stands in its task decides its document, however many are measured at once.
    place = {item.id: index for index, item in enumerate(task.items)}
    probes = []
    for item, span in zip(items, spans, strict=True):
        length = len(span.tokens)
        document = documents[place[item.id] % len(documents)]
        text = document.text[: 16 * length]
        tokens = [*model.first_tokens, *text_tokens(model, text)][:length]
        if len(tokens) < length:
            raise SparsityError(
                f"document {document.id} has {len(tokens)} tokens, fewer than the {length} of "
                f"item {item.id} of task {task.name} it is compared with; give longer documents"
            )
        probes.append(Probe(item.id, span, Span(tokens, span.start), document.id))
    return probes


def probe_states(
    model: LanguageModel, probes: Sequence[Probe], *, share: bool = True
) -> dict[str, States]:
    """Hidden states by the id of the probe, on all cores: the dense model's are the reference.

    Args:
        model: dense or otherwise.
        probes: from :func:`make_probes`.
        share: whether what items begin with, and the prose of those with one document, may be
            run once for all: not with a prefill policy by which it matters how much follows.
    """
    if not share:
        found = in_parallel(lambda probe: _states(model, probe), probes, device=model.device)
        return {probe.id: states for probe, states in zip(probes, found, strict=True)}
    spans = [probe.reasoning for probe in probes]
    shared, prefix = run_shared(model, spans)
    how = packing(model)
    if any(how.regime(len(span.tokens)) != how.regime(shared) for span in spans):
        shared, prefix = 0, None
    reasoning = _in_batches(model, [span.tokens[shared:] for span in spans], shared, prefix)
    places = {probe.id: (probe.document, how.regime(len(probe.prose.tokens))) for probe in probes}
    longest: dict[Hashable, list[int]] = {}
    for probe in probes:
        place = places[probe.id]
        longest[place] = max(longest.get(place, []), probe.prose.tokens, key=len)
    prose = dict(zip(longest, _in_batches(model, list(longest.values())), strict=True))
    return {
        probe.id: (
            own[probe.reasoning.start - 1 - shared : -1],
            prose[places[probe.id]][probe.prose.start - 1 : len(probe.prose.tokens) - 1],
        )
        for probe, own in zip(probes, reasoning, strict=True)
    }


def score_probes(
    model: LanguageModel,
    task: Task,
    probes: Sequence[Probe],
    reference: dict[str, States] | None = None,
    dense: LanguageModel | None = None,
    *,
    share: bool = True,
) -> list[dict[str, Any]]:
    """Divergence of every probe, on all cores.

    Args:
        model: dense or otherwise.
        task: whose items these are, for messages.
        probes: from :func:`make_probes`.
        reference: :func:`probe_states` of the dense model; None when ``model`` is it.
        dense: the model whose states ``reference`` holds, if its head is not that of ``model``.
        share: as for :func:`probe_states`.

    Returns:
        Per item ``id``, ``tokens`` (as many of reasoning as of prose), and for
        ``reasoning`` and ``prose`` each: ``kl`` (sum over tokens of KL(dense || model), nats),
        ``log_likelihood`` (sum, nats) and ``agreement`` (tokens whose likeliest successor is
        the dense model's).

    Raises:
        SparsityError: a log-likelihood is not finite.
    """
    states = probe_states(model, probes, share=share)

    def score(probe: Probe) -> dict[str, Any]:
        own = states[probe.id]
        expected = (None, None) if reference is None else reference[probe.id]
        parts = {
            "reasoning": _divergence(model, probe.reasoning, own[0], dense, expected[0]),
            "prose": _divergence(model, probe.prose, own[1], dense, expected[1]),
        }
        values = [part["log_likelihood"] for part in parts.values()]
        check_finite(model, f"item {probe.id} of task {task.name}", values)
        return {"id": probe.id, "tokens": len(own[0]), **parts}

    return list(in_parallel(score, probes, device=model.device))


def _in_batches(
    model: LanguageModel, texts: Sequence[list[int]], shared: int = 0, prefix: Any = None
) -> list[torch.Tensor]:
    """Hidden states [T, H] of every text, those of similar length together, on all cores.

    What fills up the shorter ones comes after them, where they do not see it; texts of a model
    that cannot be packed are together only where they are equally long.

    Args:
        model: dense or otherwise.
        texts: tokens after the prefix.
        shared: tokens before each of them, of which ``prefix`` is the cache.
        prefix: from :func:`run_shared`.
    """
    how = packing(model)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))

    def alike(index: int) -> int | None:
        """What texts of one batch have in common: nothing, or a length where none is filled up."""
        length = shared + len(texts[index])
        return None if how.packs and how.regime(length) == how.regime(0) else length

    batches = []
    for _, some in itertools.groupby(order, alike):
        members = list(some)
        batches += [members[i : i + _BATCH] for i in range(0, len(members), _BATCH)]

    def run(batch: Sequence[int]) -> torch.Tensor:
        longest = max(len(texts[index]) for index in batch)
        rows = [texts[index] + [0] * (longest - len(texts[index])) for index in batch]
        return hidden_states(model, torch.tensor(rows), prefix=prefix)

    found: dict[int, torch.Tensor] = {}
    for batch, states in zip(batches, in_parallel(run, batches, device=model.device), strict=True):
        found |= {i: own[: len(texts[i])] for i, own in zip(batch, states, strict=True)}
    return [found[index] for index in range(len(texts))]


def _states(model: LanguageModel, probe: Probe) -> States:
    both = torch.tensor([probe.reasoning.tokens, probe.prose.tokens])
    hidden = hidden_states(model, both)[:, probe.reasoning.start - 1 : -1]
    return hidden[0].clone(), hidden[1].clone()


def _divergence(
    model: LanguageModel,
    span: Span,
    own: torch.Tensor,
    dense: LanguageModel | None,
    expected: torch.Tensor | None,
) -> dict[str, Any]:
    found = score_tokens(model, own, torch.tensor(span.tokens[span.start :]), dense, expected)
    return {
        "kl": found.kl,
        "log_likelihood": math.fsum(found.log_likelihoods.tolist()),
        "agreement": found.agreement,
    }
