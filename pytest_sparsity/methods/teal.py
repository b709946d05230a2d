"""TEAL: training-free magnitude thresholds (arXiv 2408.14690), uniform over the sites."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibration import MAGNITUDES_OF_EACH
from pytest_sparsity.methods.calibrator import DEFAULT_WANTS, Calibrator
from pytest_sparsity.methods.given.given import Given
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


#: Behind the colon: every expert has a threshold of its own.
EXPERTS = "experts"


class Teal:
    """Every site drops its ``level`` smallest activations, by a threshold from calibration.

    Args:
        of_each: whether each expert has its own threshold, ``teal:experts``, and not that of all
            experts of its layer.
    """

    name = "teal"
    parameters: Mapping[str, object] = {"allocation": "uniform", "quantile": "exact |x|"}
    wants: tuple[str, ...] = DEFAULT_WANTS
    takes = ("teal",)

    def __init__(self, of_each: bool = False) -> None:
        self._of_each = of_each
        if of_each:
            self.name = f"teal:{EXPERTS}"
            self.parameters = {**self.parameters, "experts": "each its own"}
            self.wants = (*DEFAULT_WANTS, MAGNITUDES_OF_EACH.name)

    def variant(self, text: str) -> Teal:
        """The method ``teal:experts``.

        Raises:
            SparsityError: it is called otherwise.
        """
        if text != EXPERTS:
            raise SparsityError(
                f"method teal:{text}: what stands behind the colon is {EXPERTS}; or leave it out"
            )
        return Teal(of_each=True)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """Thresholds at the exact ``level`` quantile of |x| at every site.

        Where TEAL's own histograms are given, at that of their symmetric fit.

        Raises:
            SparsityError: thresholds of each expert are asked for, and the model has none.
        """
        given = calibrator.given
        self.check_model(calibrator.model, given)
        if given is not None and given.teal is not None:
            thresholds = of_model(given.teal.thresholds(level), calibrator.model)
        elif self._of_each:
            thresholds = calibrator.quantiles_of_each(level)
        else:
            thresholds = calibrator.quantiles(level)
        return thresholds_plan(self.name, calibrator, level, thresholds)

    def check_model(self, model: LanguageModel, given: Given | None) -> None:
        """See that a model has experts where each is to have a threshold.

        Raises:
            SparsityError: it has none, or TEAL's files are given and lack sites of it.
        """
        if self._of_each and not any(site.routed for site in model.sites):
            raise SparsityError(
                f"method {self.name} has a threshold for each expert, and {model.name} has no "
                "experts; use teal"
            )
        if given is not None and given.teal is not None:
            of_model(dict.fromkeys(given.teal.histograms, 0.0), model)
