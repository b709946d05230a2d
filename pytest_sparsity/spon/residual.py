"""The mean residual: the closed-form control that trained vectors have to beat."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import run_documents
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
    """
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}
    lock = threading.Lock()

    def visit(site: str, x: torch.Tensor) -> None:
        if site not in plan.selectors:
            return
        residual = (x.float() - plan.selectors[site](x).float()).sum(0).cpu()
        with lock:
            sums[site] = sums[site] + residual if site in sums else residual
            rows[site] = rows.get(site, 0) + len(x)

    with (
        progress(f"mean residual {plan.method} {plan.level:.2f}", len(tokens), "document") as task,
        observe(model, plan.prefill, visit),
    ):
        run_documents(model, tokens, on_done=task.advance)
    a = {site: sums[site] / rows[site] for site in plan.selectors}
    provenance = {
        "setting": "mean_residual",
        "weights": model.weights_hash,
        "method": plan.method,
        "level": plan.level,
        "prefill": plan.prefill.name,
    }
    return SpontaneousVectors(a, provenance)
