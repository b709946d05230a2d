"""What was found about a claim: an outcome, why, and the figures behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting import numbers

# Units that are written in hundredths: name and sign; and decimals and names of others.
_PERCENT = {"share": (" %", ""), "relative": (" %", "+"), "points": (" points", "+")}
_DIGITS = {"nats": (3, " nats"), "times": (3, " times"), "correlation": (2, "")}


class ClaimVerdict(str, Enum):
    """What the data say about a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    UNTESTABLE = "cannot be tested here"


@dataclass(frozen=True)
class Effect:
    """One figure with its interval.

    Attributes:
        label: what it is, in words.
        interval: its value and what the data say about it.
        unit: ``nats`` (per token), ``share`` (0.1 is a tenth), ``relative`` (0.02 is 2 % more),
            ``points`` (a difference of shares), ``times`` (1 is no difference), ``correlation``
            or ``count``.
        limit: what the claim holds it against; None where it is reported beside.
    """

    label: str
    interval: Interval
    unit: str
    limit: float | None = None

    @property
    def text(self) -> str:
        """``share recovered on austen 46.1 % [44.2, 48.0]``."""
        if math.isnan(self.interval.estimate):
            return f"{self.label} undefined ({self.interval.note})"
        return f"{self.label} {in_unit(self.interval, self.unit)}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, see :func:`plain`."""
        return plain(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Effect:
        """Read what :meth:`to_json` made."""
        interval = Interval.from_json(content["interval"])
        return cls(content["label"], interval, content["unit"], content["limit"])


@dataclass(frozen=True)
class Finding:
    """What was found about one claim on one model.

    Attributes:
        claim: ``"1"`` to ``"12"``, or a part of the question: ``sparsity-reasoning``,
            ``hot-cold``, ``reasoning-first``.
        model: short name.
        outcome: what the data say.
        why: one sentence with the figures that decide.
        effects: every figure.
        cells: ids of the cells behind them.
        data: whatever else is worth keeping, as plain JSON.
    """

    claim: str
    model: str
    outcome: ClaimVerdict
    why: str
    effects: tuple[Effect, ...] = ()
    cells: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, see :meth:`from_json`."""
        return plain(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """Read what :meth:`to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            content["claim"],
            content["model"],
            ClaimVerdict(content["outcome"]),
            content["why"],
            tuple(Effect.from_json(effect) for effect in content["effects"]),
            tuple(content["cells"]),
            content["data"],
        )


def in_unit(found: Interval, unit: str) -> str:
    """Estimate and limits by the unit of an :class:`Effect`: ``46.1 % [44.2, 48.0]``."""
    if math.isnan(found.estimate):
        return numbers.figure(found.estimate)
    write = numbers.estimate_and_limits
    if unit in _PERCENT:
        name, sign = _PERCENT[unit]
        return write(found, scale=100, unit=name, sign=sign)
    digits, name = _DIGITS.get(unit, (1, ""))
    return write(found, digits=digits, unit=name)


def limit_in_unit(limit: float, unit: str) -> str:
    """What a figure is held against, by its unit: ``+2 %``."""
    if unit not in _PERCENT:
        return f"{limit:g}"
    name, sign = _PERCENT[unit]
    return f"{100 * limit:{sign if limit else ''}g}{name}"  # no +0


def plain(found: Any) -> dict[str, Any]:
    """A dataclass for JSON: lists for tuples, values of enums, text for infinities and NaN.

    What is in a dictionary is left as it is.
    """
    return asdict(found, dict_factory=lambda pairs: {name: _plain(v) for name, v in pairs})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
