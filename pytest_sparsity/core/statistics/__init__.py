"""Statistics of paired measurements: intervals, tests and what they need to hold for a run."""

from pytest_sparsity.core.statistics.influence import Influence, influence
from pytest_sparsity.core.statistics.interval import Bounds, Interval, Vector
from pytest_sparsity.core.statistics.looks import level_of_a_look
from pytest_sparsity.core.statistics.means import paired_mean, paired_ratio
from pytest_sparsity.core.statistics.orders import spearman
from pytest_sparsity.core.statistics.proportions import mcnemar, paired_proportion, proportion
from pytest_sparsity.core.statistics.ranks import rank_correlation
from pytest_sparsity.core.statistics.resampling import Table, bootstrap
from pytest_sparsity.core.statistics.seeds import Pooled, pool_seeds

__all__ = [
    "Bounds",
    "Influence",
    "Interval",
    "Pooled",
    "Table",
    "Vector",
    "bootstrap",
    "influence",
    "level_of_a_look",
    "mcnemar",
    "paired_mean",
    "paired_proportion",
    "paired_ratio",
    "pool_seeds",
    "proportion",
    "rank_correlation",
    "spearman",
]
