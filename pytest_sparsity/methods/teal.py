"""TEAL: training-free magnitude thresholds (arXiv 2408.14690), uniform over the sites."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.models import LanguageModel


def of_model(found: Mapping[str, float], model: LanguageModel) -> dict[str, float]:
    """What TEAL's files say of the sites that a model has; the files tell of seven kinds always.

    Raises:
        SparsityError: the model has sites that they do not tell of.
    """
    if missing := [site.name for site in model.sites if site.name not in found]:
        raise SparsityError(
            f"--sparsity-predictors: TEAL's files tell nothing of {missing[0]} of {model.name}; "
            "leave teal and teal_greedy out of --sparsity-methods, or the option"
        )
    return {site.name: found[site.name] for site in model.sites}


def thresholds_plan(
    method: str,
    calibrator: Calibrator,
    level: float,
    thresholds: Mapping[str, float],
    targets: Mapping[str, float] | None = None,
    cost: Mapping[str, float] | None = None,
) -> Plan:
    """A plan of one threshold per site; ``targets`` where the level is not that of all sites."""
    return Plan(
        method=method,
        level=level,
        selectors={site: Threshold(t) for site, t in thresholds.items()},
        prefill=calibrator.prefill,
        targets=targets or {},
        cost=cost or {},
    )


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
            thresholds = of_model(given.teal.thresholds(level), calibrator.model)
        else:
            thresholds = calibrator.quantiles(level)
        return thresholds_plan(self.name, calibrator, level, thresholds)
