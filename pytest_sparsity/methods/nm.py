"""N:M patterns in activations: a fixed number of every group of channels (arXiv 2509.22166)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.levels import offers
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.topk_mask import keep_largest, kept
from pytest_sparsity.models import LanguageModel


@dataclass(frozen=True)
class LargestOfGroup:
    """Keep the ``n`` largest |x| of every ``m`` consecutive channels; of equal ones the first."""

    n: int
    m: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), [..., K]; K is a multiple of ``m``."""
        keep = keep_largest(x.abs().reshape(*x.shape[:-1], -1, self.m), self.n)
        return kept(x, keep.view(x.shape))


class GroupPattern:
    """Half of every group of channels at every site and token; needs no calibration.

    Args:
        n: channels kept of each group.
        m: channels in a group.
    """

    wants: tuple[str, ...] = ()

    def __init__(self, n: int, m: int) -> None:
        self.name = f"nm_{n}_{m}"
        self.parameters: Mapping[str, object] = {"pattern": f"{n}:{m}", "ties": "first"}
        self._selector = LargestOfGroup(n, m)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The pattern at every site.

        Raises:
            SparsityError: ``level`` is not what the pattern drops, or the channels of a site
                are not a multiple of the group.
        """
        n, m = self._selector.n, self._selector.m
        if not offers(self.name, level):
            raise SparsityError(
                f"method {self.name} drops {1 - n / m:g} of the activations and is not defined at "
                f"level {level:g}; name {1 - n / m:g} in --sparsity-levels"
            )
        self.check_model(calibrator.model, None)
        selectors = {site.name: self._selector for site in calibrator.model.sites}
        return Plan(self.name, level, selectors, calibrator.prefill, exact=True)

    def check_model(self, model: LanguageModel, given: object) -> None:
        """See that the channels of every site are a multiple of the group.

        Raises:
            SparsityError: those of a site are not.
        """
        m = self._selector.m
        for site in model.sites:
            if site.module.in_features % m:
                raise SparsityError(
                    f"method {self.name} needs groups of {m} channels, and {site.name} of "
                    f"{model.name} has {site.module.in_features}; leave the method out of "
                    "--sparsity-methods for this model"
                )
