"""How far a sparse model's next-token distribution is from the dense one's."""

from __future__ import annotations

import torch

from pytest_sparsity.models.forward import in_rows, log_probabilities
from pytest_sparsity.models.language_model import LanguageModel


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) per row, in nats, from log-probabilities [R, V] in float32."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_gradient(
    model: LanguageModel, dense: torch.Tensor, sparse: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Sum over rows of KL(dense || sparse), and its gradient by the sparse hidden states.

    Logits are made a few rows at a time, so memory does not grow with the sequence.

    Args:
        model: whose head maps hidden states to logits.
        dense: hidden states of the dense model, [R, H].
        sparse: hidden states of the sparse model, [R, H].

    Returns:
        (sum in nats, gradient [R, H] in the dtype of ``sparse``).
    """
    total, gradient = 0.0, torch.empty_like(sparse)
    for rows in in_rows(len(sparse)):
        with torch.no_grad():
            teacher = log_probabilities(model, dense[rows])
        student = sparse[rows].detach().requires_grad_()
        loss = kl(teacher, log_probabilities(model, student)).sum()
        (gradient[rows],) = torch.autograd.grad(loss, student)
        total += float(loss.detach())
    return total, gradient
