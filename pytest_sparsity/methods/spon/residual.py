"""The mean residual: the closed-form control that trained vectors have to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import all_dense
from pytest_sparsity.methods.reads import Kept, observe_kept
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import LanguageModel


def check_takes_constants(model: LanguageModel) -> None:
    """See that spontaneous neurons have a meaning for a model.

    Raises:
        SparsityError: all of its layers stand in several places, and lose another constant in each.
    """
    if not any(site.places == 1 for site in model.sites):
        raise SparsityError(
            f"every layer of {model.name} stands in several places, where another constant is lost "
            "in each, so that it can have no spontaneous neurons; use --sparsity-spon=off for this "
            "model"
        )


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
        progress: advances by one per document.

    Raises:
        SparsityError: the policy keeps every token dense, or no layer takes a constant.
    """
    sparse = set(plan.sparse_sites)
    check_takes_constants(model)
    chosen = [s for s in model.sites if s.name in sparse and s.places == 1]
    sums = {site.name: torch.zeros(site.module.in_features) for site in chosen}
    rows = dict.fromkeys(sums, 0)

    def residual(site: str, found: Kept) -> tuple[torch.Tensor, int]:
        return (found.x.float() - found.kept.float()).sum(0).cpu(), len(found.x)

    label = f"mean residual {plan.method} {plan.level:.2f}"
    with progress(label, len(tokens), "document") as task:
        for found in observe_kept(model, plan, tokens, residual):
            for site in found.keys() & sums.keys():
                lost, count = found[site]
                sums[site] += lost
                rows[site] += count
            task.advance()
    if not all(rows[site.name] for site in chosen if not site.routed):
        raise all_dense(plan.prefill, "calibration text")
    a = {site: sums[site] / max(1, rows[site]) for site in sums}  # 0 for experts never chosen
    provenance = {
        "setting": "mean_residual",
        "weights": model.weights_hash,
        "method": plan.method,
        "level": plan.level,
        "prefill": plan.prefill.name,
    }
    return SpontaneousVectors(a, provenance)
