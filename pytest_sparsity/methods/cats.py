"""CATS: neurons whose gate is nearly shut are skipped (arXiv 2404.08763)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.methods.calibration import ACTIVATED_MAGNITUDES
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.gated import activated_gate
from pytest_sparsity.methods.plan import GATE, Plan


@dataclass(frozen=True)
class OpenGate:
    """Keep neurons whose gate is open: |act(W_gate x)| > ``value``, strictly; NaN is kept.

    The gate is computed for all neurons, ``up`` rows and ``down`` columns for the kept ones.
    """

    value: float
    reads: str = GATE
    skips: tuple[str, ...] = ("up", "down")

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Which neurons are kept, boolean [..., I], by act(W_gate x) [..., I]."""
        return ~(read.abs() <= self.value)


class Cats:
    """Every MLP skips its ``level`` neurons of smallest gate; attention and gates stay dense.

    The level is the fraction of neurons, as in the paper: at level 0.5 half of ``up`` and
    ``down`` is skipped, about a quarter of the model.  Compare by the achieved sparsity of
    the records, which is the fraction of the whole model's weights.
    """

    name = "cats"
    parameters: Mapping[str, object] = {"decides": "|act(gate)|", "quantile": "exact"}
    wants: tuple[str, ...] = (ACTIVATED_MAGNITUDES.name,)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """Thresholds at the exact ``level`` quantile of |act(W_gate x)| in every layer.

        Raises:
            SparsityError: the model's MLPs have no gates.
        """
        model = calibrator.model
        gated = {site.layer for site in model.sites if site.kind == "gate"}
        if not gated:
            raise SparsityError(
                f"method cats decides by the gates of the MLPs, and {model.name} has none; leave "
                "cats out of --sparsity-methods for this model"
            )
        thresholds = calibrator.activated_quantiles(level)
        neurons = {
            f"{layer}.down": OpenGate(thresholds[activated_gate(layer)]) for layer in sorted(gated)
        }
        return Plan(self.name, level, {}, calibrator.prefill, neurons=neurons)
