"""What a model makes of the next tokens of a text, and how far that is from the dense model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.divergence import kl
from pytest_sparsity.models.forward import log_probabilities


@dataclass(frozen=True)
class TokenScores:
    """Of the R tokens of a text.

    Attributes:
        log_likelihoods: in nats, float32 [R].
        kl: sum over tokens of KL(dense || model), in nats; 0 of the dense model.
        agreement: tokens whose likeliest successor is the dense model's.
    """

    log_likelihoods: torch.Tensor
    kl: float
    agreement: int


def score_tokens(
    model: LanguageModel,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    dense: LanguageModel | None = None,
    reference: torch.Tensor | None = None,
) -> TokenScores:
    """Score tokens from the hidden states before them.

    Args:
        model: whose head gives the logits.
        hidden: states of the model, [R, H].
        targets: the tokens that follow, int64 [R].
        dense: the model of ``reference``; only used with it.
        reference: states of the dense model, [R, H]; None when ``model`` is it.
    """
    targets = targets.to(model.device)
    likelihoods, divergence, agreement = [], [], 0
    with torch.inference_mode():
        if reference is None:
            for rows, own in log_probabilities(model, hidden):
                likelihoods.append(own.gather(-1, targets[rows, None]))
                agreement += len(own)
        else:
            expected = log_probabilities(dense or model, reference)
            for (rows, own), (_, teacher) in zip(
                log_probabilities(model, hidden), expected, strict=True
            ):
                likelihoods.append(own.gather(-1, targets[rows, None]))
                divergence.append(float(kl(teacher, own).sum()))
                agreement += int((teacher.argmax(-1) == own.argmax(-1)).sum())
        return TokenScores(torch.cat(likelihoods).squeeze(-1), math.fsum(divergence), agreement)
