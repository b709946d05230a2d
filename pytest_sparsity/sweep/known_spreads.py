"""What measurements tell of how far a metric differs from unit to unit."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pytest_sparsity.core.statistics import Influence, Vector
from pytest_sparsity.core.statistics.power import Spread
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.evidence import RIGHT_OR_WRONG

SCHEMA = 1
BUNDLED = Path(__file__).parents[1] / "suites" / "accuracy" / "spreads.json"
#: Influences are kept as whole numbers up to this, in proportion to the largest.
_STEPS = 999
#: An item that is right in both or in neither, only in dense, only in sparse: 0, 1, -1.
_LOST = ".-+"


@dataclass(frozen=True)
class Known:
    """One metric of one cell, as it was measured.

    Attributes:
        influence: the estimate, its error, and what each unit adds.
        counts: whether units are right or wrong.
        source: where it was measured, for people.
    """

    influence: Influence
    counts: bool
    source: str

    @property
    def spread(self) -> Spread:
        """What a forecast needs."""
        error, n = self.influence.error, len(self.influence.units)
        return Spread(error * math.sqrt(n), self.influence.estimate, self.counts)

    @classmethod
    def of(cls, metric: str, found: Influence, source: str) -> Known | None:
        """What a measurement tells; None where its units do not differ, or there is only one."""
        return cls(found, counts(metric), source) if math.isfinite(found.error) else None


def counts(metric: str) -> bool:
    """Whether a metric is about items that are right or wrong."""
    return metric.partition(":")[0] in RIGHT_OR_WRONG


@dataclass(frozen=True)
class Bundled:
    """Spreads that come with this package, from one sweep of the default model.

    Attributes:
        machine: that it ran on.
        when: the day.
        known: by cell and metric.
    """

    machine: str
    when: str
    known: Mapping[tuple[Cell, str], Known]


def to_json(measured: Iterable[tuple[Cell, str, Influence]], about: Mapping[str, Any]) -> str:
    """The text of a file that :func:`bundled` reads, one line per metric.

    Args:
        measured: cells, metrics and what their units add, all of one sweep.
        about: ``machine``, ``when``, and how it was measured.

    Raises:
        ValueError: cells of an evaluation were measured on other units than each other.
    """
    units: dict[str, tuple[Hashable, ...]] = {}
    lines = []
    for cell, metric, influence in measured:
        if Known.of(metric, influence, "") is None:
            continue
        before = units.setdefault(cell.evaluation, influence.units)
        fewer = min(len(before), len(influence.units))
        if before[:fewer] != influence.units[:fewer]:
            raise ValueError(f"{cell.id} was not measured on the units of the cells before it")
        units[cell.evaluation] = max(before, influence.units, key=len)
        fields = {
            "configuration": asdict(cell.configuration),
            "evaluation": cell.evaluation,
            "metric": metric,
            "estimate": float(f"{influence.estimate:.6g}"),
            "error": float(f"{influence.error:.6g}"),
            **_shortened(metric, influence),
        }
        lines.append(json.dumps(fields, separators=(",", ":")))
    head = json.dumps({"schema": SCHEMA, "about": about}, separators=(",", ":"))
    return f'{head[:-1]},"metrics":[\n' + ",\n".join(lines) + "\n]}\n"


def _shortened(metric: str, influence: Influence) -> dict[str, Any]:
    """What units add, as text or whole numbers."""
    if counts(metric):
        lost = np.rint(influence.values * influence.values.size + influence.estimate).astype(int)
        return {"lost": "".join(_LOST[each] for each in lost)}
    scale = float(f"{np.abs(influence.values).max() / _STEPS:.6g}")
    return {"scale": scale, "values": np.rint(influence.values / scale).astype(int).tolist()}


def _values(content: Mapping[str, Any]) -> Vector:
    """What :func:`_shortened` made short."""
    if "lost" in content:
        places = np.array([_LOST.index(each) for each in content["lost"]], dtype=np.float64)
        lost: Vector = np.where(places == 2, -1.0, places)
        return np.asarray((lost - lost.mean()) / lost.size)
    return np.asarray(np.array(content["values"], dtype=np.float64) * content["scale"])


@lru_cache(maxsize=1)
def bundled() -> Bundled:
    """The spreads that come with this package."""
    content = json.loads(BUNDLED.read_text(encoding="utf-8"))
    about = content["about"]
    source = f"figures of this package, measured on {about['machine']} on {about['when']}"
    known = {}
    for each in content["metrics"]:
        cell = Cell(Configuration(**each["configuration"]), each["evaluation"])
        values = _values(each)
        units = tuple(f"{cell.subject or cell.kind}/{place}" for place in range(values.size))
        influence = Influence(each["estimate"], each["error"], values, units)
        known[cell, each["metric"]] = Known(influence, counts(each["metric"]), source)
    return Bundled(about["machine"], about["when"], known)
