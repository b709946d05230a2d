"""How far a sparse model's next-token distribution is from the dense one's."""

from __future__ import annotations

import torch

from pytest_sparsity.models.forward import in_blocks, in_rows, log_softmax, logits
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
        own = sparse[rows].detach().requires_grad_()
        with torch.enable_grad():
            values = logits(student, own)
        by_logits = torch.empty_like(values)
        with torch.no_grad():
            expected = logits(teacher, dense[rows])
            for part in in_blocks(values):
                log_p, log_q = log_softmax(expected[part]), log_softmax(values[part])
                total += float(kl(log_p, log_q).sum())
                by_logits[part] = log_q.exp() - log_p.exp()  # the derivative of KL by logits of q
        (gradient[rows],) = torch.autograd.grad(values, own, by_logits)
    return total, gradient
