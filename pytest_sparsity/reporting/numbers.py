"""How numbers are written in tables and lines: plain ASCII, no more digits than can be read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.core.statistics import Interval
    from pytest_sparsity.sweep.comparison import Comparison

_SIGNIFICANT = 0.05


def figure(value: float, digits: int = 1, sign: str = "") -> str:
    """``38.2``, or with ``sign="+"`` ``+38.2``; ``n/a`` for NaN; large numbers lose decimals."""
    if math.isnan(value):
        return "n/a"
    size = abs(value)
    if math.isinf(size):
        return format(value, sign)
    if size >= 1e5:
        return format(value, f"{sign}.1e")
    shown = 0 if size >= 1000 else digits
    return format(round(value, shown) + 0.0, f"{sign}.{shown}f")  # + 0.0: no minus zero


def percent(share: float) -> str:
    """``49.8 %`` for 0.498."""
    return f"{figure(100 * share)} %"


def perplexity(value: float) -> str:
    """Three digits or so: ``7.83``, ``58.1``, ``1234``."""
    return figure(value, 2 if value < 10 else 1)


def nats(value: float) -> str:
    """``0.312``; what would be 0.000 keeps one significant digit: ``4e-04``."""
    return f"{value:.0e}" if 0 < abs(value) < 5e-4 else figure(value, 3)


def estimate_and_limits(
    interval: Interval, *, scale: float = 1.0, unit: str = "", digits: int = 1, sign: str = ""
) -> str:
    """``+38.2 % [+35.1, +41.3]``; a negative ``scale`` swaps the limits."""
    low, high = sorted((interval.low * scale, interval.high * scale))
    estimate = figure(interval.estimate * scale, digits, sign)
    return f"{estimate}{unit} [{figure(low, digits, sign)}, {figure(high, digits, sign)}]"


def perplexity_change(change: Interval) -> str:
    """Relative increase in percent: ``+38.2 % [+35.1, +41.3]``."""
    return estimate_and_limits(change, scale=100, unit=" %", sign="+")


def accuracy_change(change: Interval) -> str:
    """Signed change in points; a drop of 0.03 is ``-3.0 [-7.1, +1.0]``."""
    return estimate_and_limits(change, scale=-100, sign="+")


def nats_change(change: Interval) -> str:
    """Signed increase in nats: ``+0.312 [+0.250, +0.380]``."""
    return estimate_and_limits(change, digits=3, sign="+")


def recovered(value: Interval) -> str:
    """Share of the loss won back: ``61 % [57, 64]``; ``n/a`` when too little was lost."""
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return "n/a"
    return estimate_and_limits(value, scale=100, unit=" %", digits=0)


def on_same_data(comparison: Comparison) -> str:
    """What dense has on the data of a row that took more than others, and how many these are."""
    if (dense := comparison.dense) is None:
        return f"n = {comparison.value.n}"
    in_nats = comparison.metric.startswith(("answer_nll", "chain_nll"))
    shown = nats(dense) if in_nats else figure(100 * dense)
    return f"dense {shown}, n = {comparison.value.n}"


def significant(comparison: Comparison) -> bool:
    """Whether McNemar's test says that accuracy changed."""
    return comparison.p_value is not None and comparison.p_value < _SIGNIFICANT


def sample_size(numbers: Iterable[int]) -> str:
    """``64``, or ``64-128`` where more data were drawn for some; empty if there are none."""
    sizes = sorted(set(numbers))
    return "-".join(str(n) for n in sorted({sizes[0], sizes[-1]})) if sizes else ""
