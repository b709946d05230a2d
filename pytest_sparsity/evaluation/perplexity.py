"""Per-token log-likelihoods of documents, and their divergence from the dense model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.token_scores import score_tokens
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.tokens import text_tokens

_BATCH = 4  # documents per forward pass


@dataclass(frozen=True)
class Window:
    """The first tokens of a document.

    Attributes:
        id: the document's.
        tokens: int64 [T]; starts with the tokens that the model needs before every text.
    """

    id: str
    tokens: torch.Tensor


def windows(
    documents: Sequence[Document],
    model: LanguageModel,
    length: int,
) -> list[Window]:
    """The first ``length`` tokens of each document, no padding; too short ones are left out.

    Raises:
        SparsityError: the model's tokenizer cannot write one.
    """
    found = []
    for document in documents:
        # More text than any tokenizer needs for the window, and not the whole document.
        tokens = [*model.first_tokens, *text_tokens(model, document.text[: 16 * length])]
        if len(tokens) >= length:
            found.append(Window(document.id, torch.tensor(tokens[:length])))
    return found


def dense_states(model: LanguageModel, documents: Sequence[Window]) -> dict[str, torch.Tensor]:
    """Document id to the dense model's hidden states [T, H]: the reference of divergence."""
    batches = _batches(documents)
    states = in_parallel(lambda batch: _hidden(model, batch), batches, device=model.device)
    return {
        window.id: state
        for batch, hidden in zip(batches, states, strict=True)
        for window, state in zip(batch, hidden, strict=True)
    }


def _batches(documents: Sequence[Window]) -> list[list[Window]]:
    """Neighbours of one length by fours: fewer calls, which keeps Python out of the way.

    Windows have one length and draws are multiples of four, so what a document scores does
    not depend on how many were asked for.
    """
    batches: list[list[Window]] = []
    for document in documents:
        last = batches[-1] if batches else []
        if 0 < len(last) < _BATCH and len(last[0].tokens) == len(document.tokens):
            last.append(document)
        else:
            batches.append([document])
    return batches


def _hidden(model: LanguageModel, batch: Sequence[Window]) -> torch.Tensor:
    """Hidden states [B, T, H]."""
    return hidden_states(model, torch.stack([window.tokens for window in batch]))


def score_documents(
    model: LanguageModel,
    documents: Sequence[Window],
    reference: dict[str, torch.Tensor] | None = None,
    on_done: Callable[[], None] | None = None,
    dense: LanguageModel | None = None,
) -> list[dict[str, Any]]:
    """Score every document on all cores.

    Args:
        model: dense or with a plan attached.
        documents: token windows; every token but the first is predicted from those before.
        reference: :func:`dense_states` of the same windows; None when ``model`` is dense.
        on_done: called after each document.
        dense: the model whose states ``reference`` holds, if its head is not that of ``model``.

    Returns:
        Per document ``id``, ``tokens`` (predictions), ``log_likelihoods`` per token in nats,
        ``kl`` (sum over tokens of KL(dense || model), nats) and ``agreement`` (tokens whose
        most likely successor is the dense model's).

    Raises:
        SparsityError: a log-likelihood is not finite.
    """

    def score_batch(batch: Sequence[Window]) -> list[dict[str, Any]]:
        hidden = _hidden(model, batch)
        return [score(window, states[:-1]) for window, states in zip(batch, hidden, strict=True)]

    def score(window: Window, hidden: torch.Tensor) -> dict[str, Any]:
        expected = reference[window.id][:-1] if reference is not None else None
        found = score_tokens(model, hidden, window.tokens[1:], dense, expected)
        if not bool(torch.isfinite(found.log_likelihoods).all()):
            raise SparsityError(
                f"model {model.name} gives a log-likelihood that is not finite (NaN logits) on "
                f"document {window.id}; the weights or the sparse plan are broken"
            )
        return {
            "id": window.id,
            "tokens": len(found.log_likelihoods),
            "log_likelihoods": found.log_likelihoods.tolist(),
            "kl": found.kl,
            "agreement": found.agreement,
        }

    scores: list[dict[str, Any]] = []
    for scored in in_parallel(score_batch, _batches(documents), device=model.device):
        scores += scored
        for _ in scored:
            if on_done is not None:
                on_done()
    return scores
