"""How much of a model a configuration really skipped, as its record of a text has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Skipped:
    """Shares of one model that were skipped on one text.

    Attributes:
        weights: of all weights in the decoder blocks' matrices.
        net: the same less the weights that are read to decide, as of predictors of neurons.
        neurons: of the neurons of feed-forward blocks; None where channels are skipped.
    """

    weights: float
    net: float
    neurons: float | None = None

    @classmethod
    def of(cls, achieved: Mapping[str, Any]) -> Skipped:
        """Read ``measured["achieved"]`` of a record."""
        weights = float(achieved["weighted"])
        neurons = achieved.get("neurons")
        net = float(achieved.get("net", weights))
        return cls(weights, net, None if neurons is None else float(neurons))
