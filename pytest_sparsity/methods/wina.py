"""WINA: activations weighed by the columns of the weights they meet (arXiv 2505.19427)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan, Selector
from pytest_sparsity.methods.topk import dropped_counts, exact_plan
from pytest_sparsity.methods.topk_mask import keep_largest, kept
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.plain_layers import difference
from pytest_sparsity.models.weights import read_weight


@dataclass(frozen=True, eq=False)
class LargestWeighted:
    """Keep the ``K - dropped`` channels of a token with the largest |x_i| ||W[:, i]||.

    Two of them are never equal: q, k and v read one input, and each chooses by its own weights.

    Attributes:
        dropped: number of channels dropped.
        norms: Euclidean norms of the columns of W, float32 [K].
    """

    dropped: int
    norms: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), [..., K]."""
        return kept(x, keep_largest(x.abs().float() * self.norms, x.shape[-1] - self.dropped))


class Wina:
    """Exact counts per token as in ``topk``, by what a channel can add to the layer's output.

    The published code takes true norms for k and gate only and 1 for the other sites, which
    there makes it TEAL; here all sites have theirs, as in the paper's equation 4.  The
    weights are not rotated, so the choice is a heuristic where W^T W is not diagonal.  The
    level is the same at all sites.
    """

    name = "wina"
    parameters: Mapping[str, object] = {
        "count": "nearest, per token",
        "ties": "first",
        "norms": "euclidean, all sites",
        "allocation": "uniform",
    }
    wants: tuple[str, ...] = ()

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The heaviest ``1 - level`` of every site's channels, to the nearest channel."""
        model = calibrator.model
        dropped = dropped_counts(model, level)
        selectors: dict[str, Selector] = {
            site.name: LargestWeighted(dropped[site.name], column_norms(site, model))
            for site in model.sites
        }
        return exact_plan(self.name, calibrator, level, selectors, dropped)

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that the weights of all layers can be read.

        Raises:
            SparsityError: those of one cannot.
        """
        for site in model.sites:
            if difference(site.module) is not None:
                read_weight(site, model)


def column_norms(site: Site, model: LanguageModel) -> torch.Tensor:
    """||W[:, i]|| for every input channel i of a site of ``model``, float32 [K]; W is [N, K].

    Raises:
        SparsityError: the weight of the site's layer cannot be read.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(read_weight(site, model).float(), dim=0)
    return norms
