"""Results like those of a sweep, made up: no model, no measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.settings.options import MEAN_RESIDUAL, OFF, SPON
from pytest_sparsity.settings.settings import QUICK_TASKS
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.skipped import Skipped
from pytest_sparsity.sweep.verdict import Verdict, judge

TASKS = QUICK_TASKS


def about(estimate: float, reach: float, n: int) -> Interval:
    """An interval that reaches equally far to both sides."""
    return Interval(estimate, estimate - reach, estimate + reach, n, detectable=1.5 * reach)


class FakeSweep:
    """Builds verdicts with numbers that follow from the configuration alone."""

    interval = staticmethod(about)
    tasks = TASKS

    def grid(
        self,
        model: str = "smollm2-135m",
        *,
        methods: Sequence[str] = ("teal",),
        levels: Sequence[float] = (0.25, 0.4, 0.5),
        spon: Sequence[str] = SPON,
    ) -> list[Configuration]:
        sparse = [Configuration(model, m, lv, s) for m in methods for lv in levels for s in spon]
        return [Configuration(model), *sparse]

    def verdicts(
        self,
        grid: Iterable[Configuration],
        *,
        corpora: Sequence[str] = ("austen", "factbook"),
        tasks: Sequence[str] = TASKS,
        greedy: bool = True,
    ) -> list[Verdict]:
        found = []
        for configuration in grid:
            for corpus in corpora:
                found += self.perplexity(configuration, corpus)
            found += [self.accuracy(configuration, task) for task in tasks]
            if greedy:
                found.append(self.greedy(configuration))
        return found

    def skipped(
        self, grid: Iterable[Configuration], *, corpora: Sequence[str] = ("austen", "factbook")
    ) -> dict[Cell, Skipped]:
        """A little less than asked for, and one point less again on every other corpus."""
        return {
            Cell(c, f"perplexity:{corpus}"): Skipped(share, share)
            for c in grid
            for number, corpus in enumerate(corpora)
            for share in [c.level - 0.002 - 0.01 * number if c.level else 0.0]
        }

    def perplexity(self, configuration: Configuration, corpus: str) -> list[Verdict]:
        cell, n = Cell(configuration, f"perplexity:{corpus}"), 64
        if configuration.method == "dense":
            return [judge(Comparison(cell, f"perplexity:{corpus}", about(42.0, 3.0, n)), None)]
        change = self._harm(configuration)
        budget = Budget(configuration, f"perplexity:{corpus}", 0.2, False, "budgets.toml")
        found = [
            judge(
                Comparison(
                    cell,
                    f"perplexity:{corpus}",
                    about(42 * (1 + change), 3.0, n),
                    about(change, 0.01 + change / 10, n),
                ),
                budget,
            ),
            judge(Comparison(cell, f"kl:{corpus}", about(change / 3, 0.01, n)), None),
            judge(Comparison(cell, f"agreement:{corpus}", about(0.95 - change / 4, 0.02, n)), None),
        ]
        if configuration.spon != OFF:
            share = -0.05 if configuration.spon == MEAN_RESIDUAL else 0.6
            found.append(judge(Comparison(cell, f"recovery:{corpus}", about(share, 0.04, n)), None))
        return found

    def accuracy(self, configuration: Configuration, task: str) -> Verdict:
        cell, metric = Cell(configuration, f"task:{task}"), f"accuracy:{task}"
        if configuration.method == "dense":
            return judge(Comparison(cell, metric, about(0.72, 0.06, 200)), None)
        drop = self._harm(configuration) / 10
        budget = Budget(configuration, metric, 0.05, False, "budgets.toml")
        change = about(drop, 0.04, 200)
        p = 0.03 if change.low > 0 else 0.4
        return judge(Comparison(cell, metric, about(0.72 - drop, 0.06, 200), change, p), budget)

    def greedy(self, configuration: Configuration) -> Verdict:
        cell = Cell(configuration, "generation")
        if configuration.method == "dense":
            return judge(Comparison(cell, "path:generation", about(32.0, 0.0, 24)), None)
        off = min(self._harm(configuration), 0.9)
        return judge(
            Comparison(
                cell, "path:generation", about(32 * (1 - off), 3.0, 24), about(off, 0.1, 24)
            ),
            None,
        )

    def _harm(self, configuration: Configuration) -> float:
        kept = {OFF: 1.0, MEAN_RESIDUAL: 1.05}.get(configuration.spon, 0.4)
        return kept * 13.12 * configuration.level**4


@pytest.fixture
def fake() -> FakeSweep:
    return FakeSweep()
