"""How far a sparse model is from the dense one on reasoning, and on prose at the same place.

Divergence depends on how much text came before, so an item's reasoning is paired with prose
that begins like it does: at position 0, and compared over the very same positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.scoring import Span, check_finite, check_spans, encode
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.divergence import kl
from pytest_sparsity.models.forward import hidden_states, in_rows, log_probabilities
from pytest_sparsity.models.parallel import in_parallel


@dataclass(frozen=True)
class Probe:
    """An item's question with its reference chain and answer, and as much prose.

    Attributes:
        id: the item's.
        reasoning: the chain and the answer after the question.
        prose: of the same length; the text that is compared starts at the same token.
    """

    id: str
    reasoning: Span
    prose: Span


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
    lead = [] if model.bos is None else [model.bos]
    probes = []
    for item, span in zip(items, spans, strict=True):
        length = len(span.tokens)
        document = documents[place[item.id] % len(documents)]
        text = document.text[: 16 * length]
        tokens = [*lead, *model.tokenizer(text, add_special_tokens=False).input_ids][:length]
        if len(tokens) < length:
            raise SparsityError(
                f"document {document.id} has {len(tokens)} tokens, fewer than the {length} of "
                f"item {item.id} of task {task.name} it is compared with; give longer documents"
            )
        probes.append(Probe(item.id, span, Span(tokens, span.start)))
    return probes


def probe_states(model: LanguageModel, probes: Sequence[Probe]) -> dict[str, States]:
    """By id, the hidden states of a model, on all cores: the dense model's are the reference."""
    found = in_parallel(lambda probe: _states(model, probe), probes, device=model.device)
    return {probe.id: states for probe, states in zip(probes, found, strict=True)}


def score_probes(
    model: LanguageModel,
    task: Task,
    probes: Sequence[Probe],
    reference: dict[str, States] | None = None,
    dense: LanguageModel | None = None,
) -> list[dict[str, Any]]:
    """Divergence of every probe, on all cores.

    Args:
        model: dense or otherwise.
        task: whose items these are, for messages.
        probes: from :func:`make_probes`.
        reference: :func:`probe_states` of the dense model; None when ``model`` is it.
        dense: the model whose states ``reference`` holds, if its head is not that of ``model``.

    Returns:
        Per item ``id``, ``tokens`` (as many of reasoning as of prose), and for
        ``reasoning`` and ``prose`` each: ``kl`` (sum over tokens of KL(dense || model), nats),
        ``log_likelihood`` (sum, nats) and ``agreement`` (tokens whose likeliest successor is
        the dense model's).

    Raises:
        SparsityError: a log-likelihood is not finite.
    """

    def score(probe: Probe) -> dict[str, Any]:
        own = _states(model, probe)
        expected = (None, None) if reference is None else reference[probe.id]
        teacher = dense or model
        parts = {
            "reasoning": _divergence(model, probe.reasoning, own[0], teacher, expected[0]),
            "prose": _divergence(model, probe.prose, own[1], teacher, expected[1]),
        }
        values = [part["log_likelihood"] for part in parts.values()]
        check_finite(model, f"item {probe.id} of task {task.name}", values)
        return {"id": probe.id, "tokens": len(own[0]), **parts}

    return list(in_parallel(score, probes, device=model.device))


def _states(model: LanguageModel, probe: Probe) -> States:
    both = torch.tensor([probe.reasoning.tokens, probe.prose.tokens])
    hidden = hidden_states(model, both)[:, probe.reasoning.start - 1 : -1]
    return hidden[0].clone(), hidden[1].clone()


def _divergence(
    model: LanguageModel,
    span: Span,
    own: torch.Tensor,
    dense: LanguageModel,
    expected: torch.Tensor | None,
) -> dict[str, Any]:
    targets = torch.tensor(span.tokens[span.start :], device=model.device)
    divergence, likelihood, agreement = [], [], 0
    with torch.inference_mode():
        for rows in in_rows(len(own)):
            values = log_probabilities(model, own[rows])
            likelihood.append(float(values.gather(-1, targets[rows, None]).sum()))
            if expected is None:
                agreement += len(values)
                continue
            teacher = log_probabilities(dense, expected[rows])
            divergence.append(float(kl(teacher, values).sum()))
            agreement += int((teacher.argmax(-1) == values.argmax(-1)).sum())
    return {
        "kl": math.fsum(divergence),
        "log_likelihood": math.fsum(likelihood),
        "agreement": agreement,
    }
