"""Claim 6: spontaneous neurons cost nothing when the model is run."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from pytest_sparsity.claims import claim
from pytest_sparsity.claims.claim import conclude
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.perplexity_claim import spon, teal
from pytest_sparsity.claims.tracing import ADDITION, PRODUCT, operations, step_of
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.weights import plain_weight
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.sparse_linear import (
    SparseLinearInputs,
    error_bound,
    sparse_linear,
)
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell

FASTEST, SLOWEST = 0.95, 1.05  # times the decoding step without spontaneous neurons


class Neutral:
    """Claim 6: spontaneous neurons cost nothing at inference."""

    number = "6"
    sentence = "SPON is inference-neutral: absorbed into biases, it costs nothing."
    definition = (
        "A step of decoding with TEAL at 0.5, with trained spontaneous neurons folded into biases "
        "and without: (a) matrix products in the traced graph, operations that are new besides "
        "additions of a bias, and layers that run another kernel; (b) the largest error of a "
        "folded bias against W a + b in float64, over the reference's bound; (c) the time of a "
        "step, ratio with over without, taken side by side."
    )
    rule = (
        "Supported if no product, operation or kernel is added or replaced, no error is beyond "
        f"its bound and the ratio's interval is within {FASTEST:g} to {SLOWEST:g}; refuted if one "
        "of these is wholly otherwise."
    )

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """None: what is examined is the model itself."""
        return []

    def decide(self, evidence: Evidence) -> Finding:
        """Trace a decoding step with and without vectors, check the folded biases, and time both.

        Raises:
            CannotTest: there are no vectors, the model has no step of decoding, or times cannot be
                taken here.
        """
        session, name = evidence.session, evidence.model
        with evidence.needing(spon(name).id):
            plans = {
                "with": session.plans.plan(spon(name)),
                "without": session.plans.plan(teal(name)),
            }
            vectors = session.plans.vectors(spon(name))
            prompt = session.texts.prompts(name)[0].tokens[None]
        model = session.models.load(name)
        prompt = prompt.to(model.device)

        with evidence.needing(f"a step of {name}"):
            step_of(model, prompt)  # before anything is measured
        traced = {side: _traced(model, plan, prompt) for side, plan in plans.items()}
        new = traced["with"] - traced["without"]
        twins = {side: model.twin() for side in plans}
        with (
            sparsify(twins["with"], plans["with"], kernels="auto") as attached,
            sparsify(twins["without"], plans["without"], kernels="auto") as other,
        ):
            replaced = sum(
                attached.kernels.get(site.name) != other.kernels.get(site.name)
                for site in model.sites
            )
            error = folding_error(twins["with"], model, vectors)
            time = evidence.time_ratio(*(step_of(twins[side], prompt) for side in plans))
        added = sum(n for operation, n in new.items() if operation not in (PRODUCT, ADDITION))
        sites = len(vectors.a)
        parts = [
            claim.within("matrix products added", _exact(new[PRODUCT], sites), "count", 0, 0),
            claim.within("operations added but biases", _exact(added, sites), "count", 0, 0),
            claim.within("layers with another kernel", _exact(replaced, sites), "count", 0, 0),
            claim.within(
                "error of a folded bias over its bound", _exact(error, sites), "times", 0, 1
            ),
            claim.within(
                "time of a step with SPON over that without", time, "times", FASTEST, SLOWEST
            ),
        ]
        data = {
            "operations": {side: dict(counts) for side, counts in traced.items()},
            "kernels": sorted(set(attached.kernels.values())),
            "sites": sites,
        }
        return conclude(self.number, evidence, parts, data)


def folding_error(
    attached: LanguageModel, model: LanguageModel, vectors: SpontaneousVectors
) -> float:
    """Largest error over bound of a folded bias, against W a + b in float64.

    Args:
        attached: a twin of ``model`` with the vectors folded in.
        model: as it was loaded.
        vectors: a by site.
    """
    folded = {site.name: site.module.bias for site in attached.sites}
    precision = Precision(model.dtype, torch.float32, torch.float32)
    worst = 0.0
    for site in model.sites:
        if site.name not in vectors.a:
            continue
        bias: Tensor | None = site.module.bias
        inputs = SparseLinearInputs(
            vectors.a[site.name][None].to(model.device),
            plain_weight(site, model.name).float(),
            0.0,
            None if bias is None else bias.float(),
        )
        bound = error_bound(inputs, precision)
        used = tolerance_used(folded[site.name][None], sparse_linear(inputs), bound)
        worst = max(worst, float(used.max()))
    return worst


def _traced(model: LanguageModel, plan: Plan, prompt: Tensor) -> Counter[str]:
    """The operations of a step in which every layer is masked: kernels of ours would hide them."""
    twin = model.twin()
    with sparsify(twin, plan):
        return operations(step_of(twin, prompt))


def _exact(value: float, n: int) -> Interval:
    return Interval(float(value), float(value), float(value), n, detectable=0.0)
