"""Statistics of paired measurements: intervals, tests and what they need to hold for a run."""

from pytest_sparsity.core.statistics.intervals import (
    Interval,
    Vector,
    mcnemar,
    paired_mean,
    paired_proportion,
    paired_ratio,
    proportion,
)
from pytest_sparsity.core.statistics.resampling import (
    Table,
    bootstrap,
    rank_correlation,
    spearman,
)

__all__ = [
    "Interval",
    "Table",
    "Vector",
    "bootstrap",
    "mcnemar",
    "paired_mean",
    "paired_proportion",
    "paired_ratio",
    "proportion",
    "rank_correlation",
    "spearman",
]
