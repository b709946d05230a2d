"""CATS: neurons whose gate is nearly shut are skipped (arXiv 2404.08763)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibration import ACTIVATED_MAGNITUDES
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.gated import activated_gate, check_gates
from pytest_sparsity.methods.given.given import Given
from pytest_sparsity.methods.levels import NATURAL
from pytest_sparsity.methods.plan import GATE, Plan
from pytest_sparsity.models import LanguageModel


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

    Args:
        given: whether thresholds are those of a config.json, as CATS' models have them, in place
            of a level: ``cats:natural``.
    """

    wants: tuple[str, ...] = (ACTIVATED_MAGNITUDES.name,)

    def __init__(self, given: bool = False) -> None:
        self._given = given
        self.name = f"cats:{NATURAL}" if given else "cats"
        self.takes = ("cats",) if given else ()
        quantile = "thresholds of the file" if given else "exact"
        self.parameters: Mapping[str, object] = {"decides": "|act(gate)|", "quantile": quantile}

    def variant(self, text: str) -> Cats:
        """The method ``cats:natural``.

        Raises:
            SparsityError: it is called otherwise.
        """
        if text != NATURAL:
            raise SparsityError(
                f"method cats:{text}: what stands behind the colon is {NATURAL}; or leave it out"
            )
        return Cats(given=True)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """Thresholds at the exact ``level`` quantile of |act(W_gate x)| in every layer.

        Raises:
            SparsityError: the model's MLPs have no gates, or thresholds are to be given and are
                not, or are of another model.
        """
        model = calibrator.model
        self.check_model(model, calibrator.given)
        layers = _gated(model)
        if self._given:
            thresholds = _given_thresholds(model, calibrator.given, layers)
        else:
            thresholds = calibrator.activated_quantiles(level)
        neurons = {f"{layer}.down": OpenGate(thresholds[activated_gate(layer)]) for layer in layers}
        return Plan(self.name, level, {}, calibrator.prefill, neurons=neurons)

    def check_model(self, model: LanguageModel, given: Given | None) -> None:
        """See that a model has gates, and thresholds where they are to be given.

        Raises:
            SparsityError: see :meth:`plan`, or what an MLP computes is not gated in that way.
        """
        layers = _gated(model)
        if not layers:
            fused = any(site.kind == "gate_up" for site in model.sites)
            none = "none of their own: gate and up are one matrix" if fused else "none"
            raise SparsityError(
                f"method cats decides by the gates of the MLPs, and {model.name} has {none}; leave "
                "cats out of --sparsity-methods for this model"
            )
        check_gates(model, layers)
        if self._given:
            _given_thresholds(model, given, layers)


def _gated(model: LanguageModel) -> list[int]:
    """The layers whose MLP has a gate of its own."""
    names = {site.name for site in model.sites}
    layers = sorted({site.layer for site in model.sites})
    return [n for n in layers if {f"{n}.gate", f"{n}.up", f"{n}.down"} <= names]


def _given_thresholds(
    model: LanguageModel, given: Given | None, layers: Sequence[int]
) -> dict[str, float]:
    """Those of the given file, or of the model's own configuration, by ``"{layer}.act"``."""
    found = given.cats if given is not None else None
    if found is None:
        found = getattr(model.model.config, "thresholds", None)
    if found is None:
        raise SparsityError(
            f"method cats:{NATURAL} needs thresholds, and {model.name} has none; name a folder "
            "whose config.json has them with --sparsity-predictors, or choose cats and a level"
        )
    if len(found) != len(layers):
        raise SparsityError(
            f"method cats:{NATURAL}: there are {len(found)} thresholds, and {model.name} has "
            f"{len(layers)} layers; give those of this model"
        )
    return {activated_gate(n): float(t) for n, t in zip(layers, found, strict=True)}
