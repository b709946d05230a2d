"""How well a plan's choice of neurons agrees with the best one, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pytest_sparsity.methods.neurons.activity import (
    contribution,
    down_sites,
    truncation_error,
)
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import all_dense
from pytest_sparsity.methods.reads import Kept, observe_plans
from pytest_sparsity.methods.topk_mask import keep_largest
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.weights import read_weight


@dataclass(frozen=True)
class SelectionQuality:
    """Which of the best neurons a method keeps, on dense activations of one text.

    The best are, per token, as many as the method keeps there, those that add most to the block's
    output, without exact zeros.  A random choice of a share has that share as recall and as
    precision where nothing is zero.

    Attributes:
        method: name of the method.
        level: share of neurons dropped.
        recall: share of the best that are kept, per layer.
        precision: share of the kept that are among the best, per layer; after ReLU it falls
            short of 1 where fewer neurons are active than are kept.
        error: mean truncation error of the block's output, per layer, see
            :func:`~.activity.truncation_error`.
        tokens: positions looked at.
    """

    method: str
    level: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    error: tuple[float, ...]
    tokens: int

    @property
    def mean_recall(self) -> float:
        """Mean over the layers."""
        return sum(self.recall) / len(self.recall)


def selection_quality(
    model: LanguageModel, plans: Sequence[Plan], tokens: Sequence[torch.Tensor]
) -> list[SelectionQuality]:
    """Compare the neurons that every one of ``plans`` keeps with the best ones, in one pass.

    Args:
        model: dense, nothing attached.
        plans: of methods of neurons.
        tokens: documents that the plans were not made from, int64 [T] each.

    Raises:
        SparsityError: the plans' policy keeps every token dense.
        ValueError: a plan does not choose neurons, or the plans differ in their policy.
    """
    sites = down_sites(model)
    for plan in plans:
        if not plan.neurons:
            raise ValueError(f"method {plan.method} does not choose neurons")
    weights = {name: read_weight(site, model) for name, site in sites.items()}
    norms = {name: column_norms(site, model) for name, site in sites.items()}

    def visit(plan: Plan, name: str, found: Kept) -> tuple[torch.Tensor, int]:
        h, kept = found.x, found.neurons
        assert kept is not None
        best = _largest(contribution(h, norms[name]), kept.sum(-1, keepdim=True)) & (h != 0)
        error = truncation_error(h, found.kept, weights[name])
        counted = torch.stack([(best & kept).sum(), best.sum(), kept.sum()]).double()
        return torch.cat([counted, error.sum(dtype=torch.float64)[None]]).cpu(), len(h)

    totals = [dict.fromkeys(plan.neurons, torch.zeros(4, dtype=torch.float64)) for plan in plans]
    seen = 0
    for document in observe_plans(model, plans, tokens, visit):
        for total, found in zip(totals, document, strict=True):
            for name, (counted, _) in found.items():
                total[name] = total[name] + counted
        seen += next(iter(document[0].values()))[1]
    if not seen:
        raise all_dense(plans[0].prefill, "text")
    return [
        _quality(plan, [total[name].tolist() for name in sites if name in total], seen)
        for plan, total in zip(plans, totals, strict=True)
    ]


def _largest(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Of each row [R, I] so many of the largest as ``counts`` [R, 1] says; the first of equals."""
    first = int(counts[0])
    if bool((counts == first).all()):
        return keep_largest(scores, first)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(
        -1, order, torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    )
    return ranks < counts


def _quality(plan: Plan, sums: Sequence[Sequence[float]], seen: int) -> SelectionQuality:
    return SelectionQuality(
        method=plan.method,
        level=plan.level,
        recall=tuple(both / best if best else 1.0 for both, best, _, _ in sums),
        precision=tuple(both / kept if kept else 1.0 for both, _, kept, _ in sums),
        error=tuple(error / seen for _, _, _, error in sums),
        tokens=seen,
    )
