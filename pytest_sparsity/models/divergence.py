"""How far a sparse model's next-token distribution is from the dense one's."""

from __future__ import annotations

import torch

from pytest_sparsity.models.forward import in_rows, log_probabilities
from pytest_sparsity.models.language_model import LanguageModel


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) per row, in nats, from log-probabilities [R, V] in float32."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_gradient(
    teacher: LanguageModel, dense: torch.Tensor, student: LanguageModel, sparse: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Sum over rows of KL(dense || sparse), and its gradient by the sparse hidden states.

    Logits are made a few rows at a time, so memory does not grow with the sequence.

    Args:
        teacher: the dense model, whose head maps ``dense`` to logits.
        dense: its hidden states, [R, H].
        student: the sparse model, whose head maps ``sparse`` to logits.
        sparse: its hidden states, [R, H].

    Returns:
        (sum in nats, gradient [R, H] in the dtype of ``sparse``).
    """
    total, gradient = 0.0, torch.empty_like(sparse)
    for rows in in_rows(len(sparse)):
        with torch.no_grad():
            expected = log_probabilities(teacher, dense[rows])
        own = sparse[rows].detach().requires_grad_()
        loss = kl(expected, log_probabilities(student, own)).sum()
        (gradient[rows],) = torch.autograd.grad(loss, own)
        total += float(loss.detach())
    return total, gradient
