"""One sweep: measures what the store lacks, and judges what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.registry import Method
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.spon.library import MissingVectors
from pytest_sparsity.sweep import budgets, measuring
from pytest_sparsity.sweep.bench import Bench
from pytest_sparsity.sweep.budgets import Budgets
from pytest_sparsity.sweep.cell import OFF, PERPLEXITY, TRAINED, Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison, compare
from pytest_sparsity.sweep.record import Record, record_id
from pytest_sparsity.sweep.skipped import Skipped
from pytest_sparsity.sweep.store import RecordStore
from pytest_sparsity.sweep.verdict import Outcome, Verdict, judge

BUNDLED_THRESHOLDS = Path(__file__).parents[1] / "suites" / "accuracy" / "thresholds.toml"


class SweepSession:
    """Ties settings, bench, store and budgets together.

    Args:
        settings: what the user asked for.
        progress: told about long preparations.
        methods: known by name besides the bundled ones.

    Raises:
        SparsityError: a setting, a thresholds file or the report folder is unusable.
    """

    def __init__(
        self, settings: Settings, progress: Progress = silent, methods: Iterable[Method] = ()
    ) -> None:
        self.settings = settings
        files = [BUNDLED_THRESHOLDS]
        if settings.overrides is not None:
            files.append(settings.overrides)
        self.budgets: Budgets = budgets.load(*files)
        self.bench = Bench(settings, progress, methods)
        self.store = RecordStore(settings.report)

    def record(self, cell: Cell, draws: int = 1, *, wait: bool = True) -> Record:
        """The record of ``cell`` with at least ``draws`` draws, measured if need be.

        Raises:
            SparsityError: it cannot be measured or written.
            InUse: another process is measuring it, and ``wait`` is False.
        """
        key = self.bench.key(cell)
        id = record_id(cell, key)
        known = self.store.find(id)
        if known is not None and measuring.enough(self.bench, cell, draws, known):
            return known
        with self.store.claim(id, wait=wait):
            known = self.store.find(id)
            if known is not None and measuring.enough(self.bench, cell, draws, known):
                return known
            fresh = measuring.measure(self.bench, cell, draws, known, key)
            self.store.append(fresh)
            return fresh

    def known(self, cell: Cell) -> Record | None:
        """The record of ``cell``, if it has been measured."""
        return self.store.find(record_id(cell, self.bench.key(cell)))

    def compare(self, cell: Cell, draws: int = 1) -> list[Comparison]:
        """Every metric of ``cell`` against dense, measuring what is missing."""
        off = None
        dense = self.record(cell.dense, draws)
        if cell.configuration.spon != OFF:
            off = self.record(cell.without_spon, draws)
        return compare(self.record(cell, draws), dense, off, seed=self.settings.seed)

    def judge(self, cell: Cell) -> list[Verdict]:
        """Verdicts over every metric of ``cell``.

        While one is inconclusive, more data are drawn, up to the profile's cap; and of the dense
        model while it refuses the task.
        """
        verdicts: list[Verdict] = []
        for draws in range(1, self.settings.sizes.draws + 1):
            verdicts = self._judged(self.compare(cell, draws))
            if self._refused(verdicts) and not cell.configuration.is_reference:
                self.judge(cell.dense)  # draws as many items as it may before the refusal stands
                verdicts = self._judged(self.compare(cell, draws))
            if not self._undecided(cell, verdicts):
                break
        return verdicts

    def summary(self, cells: Sequence[Cell]) -> list[Verdict]:
        """Verdicts over the cells that have been measured; measures nothing."""
        verdicts: list[Verdict] = []
        for cell in cells:
            try:
                record, dense = self.known(cell), self.known(cell.dense)
                off = self.known(cell.without_spon) if cell.configuration.spon != OFF else None
            except MissingVectors:  # the test of that cell said so
                continue
            if record is not None and dense is not None:
                verdicts += self._judged(compare(record, dense, off, seed=self.settings.seed))
        return verdicts

    def without_vectors(self, cells: Sequence[Cell]) -> list[Configuration]:
        """Configurations that cannot be measured, because no trained vectors fit them."""
        missing = []
        for configuration in dict.fromkeys(c.configuration for c in cells):
            if configuration.spon == TRAINED:
                try:
                    self.bench.vectors(configuration)
                except MissingVectors:
                    missing.append(configuration)
        return missing

    def skipped(self, cells: Sequence[Cell]) -> dict[Cell, Skipped]:
        """What was really skipped, per configuration and corpus that was measured."""
        found: dict[Cell, Skipped] = {}
        for cell in cells:
            if cell.kind != PERPLEXITY:
                continue
            try:
                record = self.known(cell)
            except MissingVectors:
                continue
            if record is not None and "achieved" in record.measured:
                found[cell] = Skipped.of(record.measured["achieved"])
        return found

    def plateaus(self, cells: Sequence[Cell]) -> dict[Configuration, tuple[str, ...]]:
        """Sites whose level asks for less than is 0 by nature, which is skipped, all of it."""
        texts = [c for c in cells if c.kind == PERPLEXITY and c.configuration.spon == OFF]
        known = {cell.configuration: self.known(cell) for cell in texts}
        sites = {
            configuration: tuple(record.measured.get("achieved", {}).get("plateau", ()))
            for configuration, record in known.items()
            if record is not None
        }
        return {configuration: found for configuration, found in sites.items() if found}

    @staticmethod
    def _refused(verdicts: Sequence[Verdict]) -> bool:
        return any(verdict.outcome is Outcome.REFUSED for verdict in verdicts)

    def _undecided(self, cell: Cell, verdicts: Sequence[Verdict]) -> bool:
        """Whether more data about ``cell`` could change what is said about it."""
        if cell.configuration.is_reference and self._refused(verdicts):
            return True
        return any(verdict.outcome is Outcome.INCONCLUSIVE for verdict in verdicts)

    def _judged(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        return [judge(c, self.budgets.find(c.cell.configuration, c.metric)) for c in comparisons]
