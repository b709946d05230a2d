"""The mean residual: the closed-form control that trained vectors have to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.prefill import all_dense
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.progress import Progress, silent
from pytest_sparsity.spon.vectors import SpontaneousVectors


def mean_residual(
    model: LanguageModel,
    plan: Plan,
    tokens: Sequence[torch.Tensor],
    progress: Progress = silent,
) -> SpontaneousVectors:
    """A = E[x - S(x)] on the dense model's activations, so that W a is the mean loss.

    It is the best constant under squared error of each layer's output, the optimum of the
    SPON objective when the Fisher matrix is replaced by the identity.

    Args:
        model: dense.
        plan: whose selectors define S.
        tokens: calibration documents, int64 [T] each; dense rows of the plan's prefill
            policy do not count.
        progress: told one unit per document.

    Raises:
        SparsityError: the policy keeps every token dense.
    """
    sums = {s.name: torch.zeros(s.module.in_features) for s in model.sites}
    rows = dict.fromkeys(sums, 0)

    def residual(site: str, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        kept = plan.selectors[site](x) if site in plan.selectors else x
        return (x.float() - kept.float()).sum(0).cpu(), len(x)

    label = f"mean residual {plan.method} {plan.level:.2f}"
    with progress(label, len(tokens), "document") as task:
        for found in observe_documents(model, plan.prefill, tokens, residual):
            for site in plan.selectors:
                lost, count = found[site]
                sums[site] += lost
                rows[site] += count
            task.advance()
    if not all(rows[site] for site in plan.selectors):
        raise all_dense(plan.prefill, "calibration text")
    a = {site: sums[site] / rows[site] for site in plan.selectors}
    provenance = {
        "setting": "mean_residual",
        "weights": model.weights_hash,
        "method": plan.method,
        "level": plan.level,
        "prefill": plan.prefill.name,
    }
    return SpontaneousVectors(a, provenance)
