"""Exactly the same number of channels at every token, chosen by magnitude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan, Selector
from pytest_sparsity.methods.topk_mask import dropped_count, keep_largest, kept
from pytest_sparsity.models import LanguageModel


@dataclass(frozen=True)
class Largest:
    """Keep a token's ``K - dropped`` channels of largest |x|; of equal ones the first."""

    dropped: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), [..., K]."""
        return kept(x, keep_largest(x.abs(), x.shape[-1] - self.dropped))


class TopK:
    """Every site keeps its largest activations, token by token; needs no calibration."""

    name = "topk"
    parameters: Mapping[str, object] = {"count": "nearest, per token", "ties": "first"}
    wants: tuple[str, ...] = ()

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The largest ``1 - level`` of every site's channels, to the nearest channel."""
        model = calibrator.model
        dropped = dropped_counts(model, level)
        selectors: dict[str, Selector] = {site: Largest(n) for site, n in dropped.items()}
        return exact_plan(self.name, calibrator, level, selectors, dropped)


def dropped_counts(model: LanguageModel, level: float) -> dict[str, int]:
    """Site to the number of its channels that a level drops."""
    return {site.name: dropped_count(level, site.module.in_features) for site in model.sites}


def exact_plan(
    method: str,
    calibrator: Calibrator,
    level: float,
    selectors: Mapping[str, Selector],
    dropped: Mapping[str, int],
) -> Plan:
    """A plan that drops ``dropped`` channels of each site at every token."""
    widths = {site.name: site.module.in_features for site in calibrator.model.sites}
    return Plan(
        method=method,
        level=level,
        selectors=selectors,
        prefill=calibrator.prefill,
        targets={site: count / widths[site] for site, count in dropped.items()},
        exact=True,
    )
