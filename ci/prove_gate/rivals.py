"""Rules that others gate with, on the samples that our gate saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import PercentageRegressionCheck
from scipy.stats import mannwhitneyu

Samples = Sequence[float]
_SIGNIFICANT = 0.05


def alarms(candidate: Samples, baseline: Samples, tolerance: float) -> Mapping[str, bool]:
    """Whether each rule calls the candidate slower.

    Args:
        candidate: seconds per call.
        baseline: the same.
        tolerance: the fraction that all rules with a tolerance are given.
    """
    percent = 100 * tolerance
    rules: dict[str, Callable[[], bool]] = {
        f"pytest-benchmark, compare-fail={field}:{percent:g}%": partial(
            _compare_fail, field, percent, candidate, baseline
        )
        for field in ("min", "median", "mean")
    }
    slower = float(np.median(candidate) / np.median(baseline))
    significant = float(mannwhitneyu(candidate, baseline).pvalue) < _SIGNIFICANT
    rules["Mann-Whitney, p < 0.05"] = lambda: significant and slower > 1
    rules[f"Mann-Whitney, p < 0.05, and median beyond {percent:g} % (gpucheck)"] = lambda: (
        significant and slower > 1 + tolerance
    )
    return {name: bool(rule()) for name, rule in rules.items()}


def _compare_fail(field: str, percent: float, candidate: Samples, baseline: Samples) -> bool:
    """Whether pytest-benchmark's own check fails."""
    check = PercentageRegressionCheck(field, percent)
    return bool(check.fails(_stats(candidate), _stats(baseline)))


def _stats(samples: Samples) -> Mapping[str, float]:
    stats = Stats()
    for seconds in samples:
        stats.update(seconds)
    found: Mapping[str, float] = stats.as_dict()
    return found
