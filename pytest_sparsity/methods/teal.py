"""TEAL: training-free magnitude thresholds (arXiv 2408.14690), uniform over the sites."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan, Threshold


class Teal:
    """Every site drops its ``level`` smallest activations, by a threshold from calibration."""

    name = "teal"
    parameters: Mapping[str, object] = {"allocation": "uniform", "quantile": "exact |x|"}
    takes = ("teal",)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """Thresholds at the exact ``level`` quantile of |x| at every site.

        Where TEAL's own histograms are given, at that of their symmetric fit.
        """
        given = calibrator.given
        if given is not None and given.teal is not None:
            thresholds = given.teal.thresholds(level)
        else:
            thresholds = calibrator.quantiles(level)
        return Plan(
            method=self.name,
            level=level,
            selectors={site: Threshold(t) for site, t in thresholds.items()},
            prefill=calibrator.prefill,
        )
