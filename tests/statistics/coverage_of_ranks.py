"""How often the interval of a rank correlation holds the true one, in simulated questions.

``python tests/statistics/coverage_of_ranks.py`` prints the table: beside the interval of today that
of the quantiles of draws, which was used before.  Items of a task have an ability in common that
all levels rest on, as the cells of the reasoning question do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pytest_sparsity.core.statistics import Interval, Table, bootstrap, rank_correlation, spearman

#: Per question the shares that each of two tasks truly loses, by level.
QUESTIONS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "much, in order": ([0.03, 0.09, 0.25, 0.40], [0.04, 0.10, 0.24, 0.41]),
    "little, in order": ([0.03, 0.09, 0.15, 0.17], [0.02, 0.08, 0.16, 0.20]),
    "hardly anything, in order": ([0.000, 0.001, 0.002, 0.003], [0.0005, 0.0015, 0.0025, 0.0035]),
    "both tasks equal at every level": ([0.01, 0.02, 0.03, 0.04], [0.01, 0.02, 0.03, 0.04]),
    "no order": ([0.10, 0.05, 0.12, 0.07], [0.09, 0.06, 0.03, 0.11]),
    "less with more sparsity": ([0.20, 0.15, 0.10, 0.05], [0.21, 0.16, 0.11, 0.04]),
    "one task only": ([0.05, 0.15, 0.30, 0.40], [0.001, 0.002, 0.003, 0.004]),
    "one task, the other turned": ([0.05, 0.15, 0.30, 0.40], [0.004, 0.003, 0.002, 0.001]),
    "a step, then turned": ([0.05, 0.20, 0.19, 0.18], [0.06, 0.21, 0.201, 0.191]),
}
#: Share right of the dense model, and by guessing, of either task.
DENSE = ((0.60, 0.25), (0.70, 0.30))
SPARSITY = (0.25, 0.4, 0.5, 0.6)


def right(
    task: tuple[float, float], losses: Sequence[float], items: int, rng: np.random.Generator
) -> Table:
    """Right answers of the dense model and at every level, [items, 1 + levels]."""
    dense, chance = task
    shares = [dense - (dense - chance) * loss for loss in losses]
    ability, other = rng.normal(size=(2, items))
    columns = [ability < stats.norm.ppf(dense)]
    for share in shares:
        own = 0.9 * ability + np.sqrt(0.19) * (0.7 * other + np.sqrt(0.51) * rng.normal(size=items))
        columns.append(own < stats.norm.ppf(share))
    return np.stack(columns, axis=1).astype(np.float64)


def lost(sums: Sequence[Table], items: int) -> Table:
    """Shares lost beyond guessing, [draws, cells]."""
    found = []
    for each, (_, chance) in zip(sums, DENSE, strict=True):
        beyond = each[:, :1] - chance * items
        share = (each[:, :1] - each[:, 1:]) / np.where(beyond > 0, beyond, np.nan)
        found.append(np.round(share, 12))
    return np.concatenate(found, axis=1)


def coverage(
    question: str, levels: int, items: int, runs: int, *, seed: int, old: bool = False
) -> tuple[float, float, float, float]:
    """True correlation; shares of intervals that hold it, and that are above 0; mean width."""
    losses = [each[:levels] for each in QUESTIONS[question]]
    x = np.tile(SPARSITY[:levels], len(losses))
    truth = float(spearman(x, np.concatenate(losses)))
    rng = np.random.default_rng(seed)
    found: list[Interval] = []
    for run in range(runs):
        groups = [right(t, own, items, rng) for t, own in zip(DENSE, losses, strict=True)]
        if old:
            found.append(
                bootstrap(groups, lambda s: spearman(x, lost(s, items)), seed=run, resamples=500)
            )
        else:
            found.append(
                rank_correlation(x, groups, lambda s: lost(s, items), seed=run, resamples=500)
            )
    ends = np.array([[max(f.low, -1.0), min(f.high, 1.0)] for f in found])
    holds = (ends[:, 0] <= truth + 1e-9) & (ends[:, 1] >= truth - 1e-9)
    return truth, holds.mean(), (ends[:, 0] > 0).mean(), (ends[:, 1] - ends[:, 0]).mean()


def main(runs: int) -> None:
    """Print the table."""
    print(f"{'losses':32} cells items  truth |  coverage  above 0  width |  before: the same")
    for levels, items in ((3, 100), (4, 300)):
        for question in QUESTIONS:
            truth, *now = coverage(question, levels, items, runs, seed=1)
            before = coverage(question, levels, items, runs, seed=1, old=True)[1:]
            shown = " | ".join("{:9.3f} {:8.2f} {:6.2f}".format(*each) for each in (now, before))
            print(f"{question:32} {2 * levels:5} {items:5} {truth:+6.2f} | {shown}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
