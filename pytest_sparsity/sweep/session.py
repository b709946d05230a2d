"""One sweep: measures what the store lacks, and judges what it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.attach import Attached
from pytest_sparsity.methods.registry import check_method
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.methods.spon.residual import check_takes_constants
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.settings.options import OFF, TRAINED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import budgets, looking, measuring
from pytest_sparsity.sweep.budgets import Budget, Budgets
from pytest_sparsity.sweep.calibration_store import CalibrationStore
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, Cell, Configuration
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.comparison import Comparison, compare
from pytest_sparsity.sweep.looking import Measured
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.offered import NOTHING, Offered
from pytest_sparsity.sweep.plan_store import PlanStore
from pytest_sparsity.sweep.record import Record, record_id
from pytest_sparsity.sweep.resolve import resolve
from pytest_sparsity.sweep.skipped import Skipped
from pytest_sparsity.sweep.store import RecordStore
from pytest_sparsity.sweep.stores import make_stores
from pytest_sparsity.sweep.text_store import TextStore
from pytest_sparsity.sweep.verdict import Verdict
from pytest_sparsity.sweep.weight_store import WeightStore
from pytest_sparsity.targets import HardwareTarget

BUNDLED_BUDGETS = Path(__file__).parents[1] / "suites" / "accuracy" / "budgets.toml"


class SweepSession:
    """Ties settings, stores, records and budgets together.

    Args:
        settings: what the user asked for.
        progress: shows long preparations.
        offered: models, methods, tasks and corpora that hooks add to the bundled ones.

    Attributes:
        budgets: bundled, and of the settings.
        store: the records.

    The other attributes are those of :class:`~.stores.Stores`.

    Raises:
        SparsityError: a setting, a budgets file or the report folder is unusable.
    """

    settings: Settings
    progress: Progress
    cache: Path
    target: HardwareTarget
    methods: ChosenMethods
    models: ModelStore
    texts: TextStore
    weights: WeightStore
    calibrations: CalibrationStore
    plans: PlanStore
    budgets: Budgets
    store: RecordStore

    def __init__(
        self, settings: Settings, progress: Progress = silent, offered: Offered = NOTHING
    ) -> None:
        self.settings = settings
        self.progress = progress
        files = [BUNDLED_BUDGETS]
        if settings.overrides is not None:
            files.append(settings.overrides)
        self.budgets = budgets.load(*files)
        self._stores = make_stores(settings, progress, offered)
        self.cache, self.target = self._stores.cache, self._stores.target
        self.methods = self._stores.methods
        self.models = self._stores.models
        self.texts = self._stores.texts
        self.weights = self._stores.weights
        self.calibrations = self._stores.calibrations
        self.plans = self._stores.plans
        self.store = RecordStore(settings.report)
        self._used: dict[str, None] = {}

    def check_methods(self) -> None:
        """See that every method, and the SPON setting, has a meaning for every model.

        Raises:
            SparsityError: one has none, so that all of its cells would fail.
        """
        settings = self.settings
        for model in self.models.load_all().values():
            for name in settings.methods:
                with blaming(f"--sparsity-methods {name}"):
                    check_method(self.methods.method(name), model, self.methods.given)
            for spon in settings.spon:
                if spon != OFF and settings.methods:
                    with blaming(f"--sparsity-spon {spon}"):
                        check_takes_constants(model)

    def attached(self, configuration: Configuration) -> tuple[LanguageModel, Attached]:
        """A twin of the model with the configuration's plan; the last one is kept attached.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
            SparsityError: the weights cannot be compressed, or there is no plan.
        """
        return self._stores.configured.attached(configuration)

    def key(self, cell: Cell) -> dict[str, Any]:
        """Everything that makes two records of ``cell`` comparable, as plain data.

        Raises:
            MissingVectors: it needs trained vectors, and none fit.
            SparsityError: its model, text or method cannot be had.
        """
        return self._stores.keys.of(cell)

    def record(self, cell: Cell, draws: int = 1, *, wait: bool = True) -> Record:
        """The record of ``cell`` with at least ``draws`` draws, measured if need be.

        Raises:
            SparsityError: it cannot be measured or written.
            InUse: another process is measuring it, and ``wait`` is False.
        """
        key = self.key(cell)
        id = record_id(cell, key)
        self._used[id] = None
        known = self.store.find(id)
        if known is not None and self._enough(known, draws):
            return known
        with self.store.claim(id, wait=wait):
            known = self.store.find(id)  # another process may have measured it meanwhile
            if known is not None and self._enough(known, draws):
                return known
            fresh = measuring.measure(resolve(self._stores, cell, key), draws, known)
            self.store.append(fresh)
            return fresh

    def take_used(self) -> list[str]:
        """Ids of the records that were measured or looked up since this was last called."""
        found, self._used = list(self._used), {}
        return found

    def known(self, cell: Cell) -> Record | None:
        """The record of ``cell``, if it has been measured."""
        return self.store.find(record_id(cell, self.key(cell)))

    def compare(self, cell: Cell, draws: int = 1) -> list[Comparison]:
        """Every metric of ``cell`` against dense, measuring what is missing.

        Over the data of so many draws, also where the store holds more because others drew it.
        """
        found = self._measured(cell, draws)
        own = looking.seen(found.own, draws, self.settings.sizes)
        return compare(own, found.dense, found.off, seed=self.settings.seed)

    def looks(self, cell: Cell) -> int:
        """How often the verdicts on ``cell`` may be spoken: planned before its data are seen.

        Once, unless a budget may be undecided and more data can be drawn.
        """
        if cell.kind == GENERATION or not self.budgets.of(cell):
            return 1
        available = self.texts.available(cell) / cell.units(self.settings.sizes)
        return max(1, min(self.settings.sizes.draws, math.ceil(available)))

    def judge(self, cell: Cell, level: float = 1.0) -> list[Verdict]:
        """Verdicts over every metric of ``cell``.

        While one is inconclusive or suspect, more data are drawn, up to the looks that are
        planned; and of the dense model while it refuses the task.

        Args:
            cell: is measured if need be.
            level: the largest p at which a verdict fails whatever others of the run say.
        """
        verdicts: list[Verdict] = []
        for look in range(1, self._most(cell) + 1):
            verdicts = self._judged(cell, self._measured(cell, look), look, level)
            if looking.refused(verdicts) and not cell.configuration.is_reference:
                self.judge(cell.dense)  # draws as many items as it may before the refusal stands
                verdicts = self._judged(cell, self._measured(cell, look), look, level)
            if not looking.undecided(cell, verdicts):
                break
        return verdicts

    def hold(self, cell: Cell, budget: Budget, level: float = 1.0) -> list[Verdict]:
        """Every metric of ``cell``, one of them against a budget; measured once, and no further."""
        found = self._measured(cell, 1)
        sizes, seed = self.settings.sizes, self.settings.seed
        held = Budgets([budget])
        return looking.verdicts_at(1, 1, found, held, sizes, seed=seed, level=level)

    def summary(
        self, cells: Sequence[Cell], spoken: Mapping[Cell, int] | None = None, level: float = 1.0
    ) -> list[Verdict]:
        """Verdicts over the cells that have been measured; measures nothing.

        A cell's verdicts are those of the look at which they were spoken, whatever others that
        share its records drew since.

        Args:
            cells: of the grid.
            spoken: by cell, that look; of others it is found as :meth:`judge` does, as far as
                there are data.
            level: as for :meth:`judge`.
        """
        verdicts: list[Verdict] = []
        for cell in cells:
            try:
                found = self._known(cell)
            except MissingVectors:  # the test of that cell said so
                continue
            if found is not None:
                verdicts += self._summed_up(cell, found, (spoken or {}).get(cell), level)
        return verdicts

    def _summed_up(
        self, cell: Cell, found: Measured, spoken: int | None, level: float
    ) -> list[Verdict]:
        step, held = cell.units(self.settings.sizes), len(found.own.units)
        first, last = (spoken, spoken) if spoken else (1, self._most(cell))
        verdicts: list[Verdict] = []
        for look in range(first, last + 1):
            verdicts = self._judged(cell, found, look, level)
            if not looking.undecided(cell, verdicts) or held <= look * step:
                break
        return verdicts

    def without_vectors(self, cells: Sequence[Cell]) -> list[Configuration]:
        """Configurations that cannot be measured, because no trained vectors fit them."""
        missing = []
        for configuration in dict.fromkeys(c.configuration for c in cells):
            if configuration.spon == TRAINED:
                try:
                    self.plans.vectors(configuration)
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

    def left_out(self, cells: Sequence[Cell]) -> dict[str, str]:
        """How many documents were not measured, and why, by corpus and model."""
        found: dict[str, str] = {}
        for cell in cells:
            if cell.kind != PERPLEXITY or not cell.configuration.is_reference:
                continue
            record = self.known(cell)
            if record is not None and (count := record.measured.get("left_out")):
                text = self.texts.evaluation_corpus(cell.subject)
                found[f"{text.name}, {cell.configuration.model}"] = (
                    f"{count:,} of {len(text.documents):,} documents, which have less than "
                    f"{self.settings.sizes.window} tokens"
                )
        return found

    def plateaus(self, cells: Sequence[Cell]) -> dict[Configuration, tuple[str, ...]]:
        """Sites at which more activations are 0 by nature than the level asks to skip."""
        texts = [c for c in cells if c.kind == PERPLEXITY and c.configuration.spon == OFF]
        known = {cell.configuration: self.known(cell) for cell in texts}
        sites = {
            configuration: tuple(record.measured.get("achieved", {}).get("plateau", ()))
            for configuration, record in known.items()
            if record is not None
        }
        return {configuration: found for configuration, found in sites.items() if found}

    def _enough(self, record: Record, draws: int) -> bool:
        """Whether a record holds as much data as ``draws`` draws give."""
        cell = record.cell
        if cell.kind == GENERATION:  # is always measured whole
            return True
        drawn = cell.units(self.settings.sizes) * draws
        return len(record.units) >= min(drawn, self.texts.available(cell))

    def _most(self, cell: Cell) -> int:
        """How often data of ``cell`` may be drawn; of dense, until it is better than guessing."""
        if cell.configuration.is_reference:
            return self.settings.sizes.draws
        return self.looks(cell)

    def _measured(self, cell: Cell, draws: int) -> Measured:
        dense, off = self.record(cell.dense, draws), None
        if cell.configuration.spon != OFF:
            off = self.record(cell.without_spon, draws)
        return Measured(self.record(cell, draws), dense, off)

    def _known(self, cell: Cell) -> Measured | None:
        own, dense = self.known(cell), self.known(cell.dense)
        off = self.known(cell.without_spon) if cell.configuration.spon != OFF else None
        return None if own is None or dense is None else Measured(own, dense, off)

    def _judged(self, cell: Cell, found: Measured, look: int, level: float) -> list[Verdict]:
        sizes, seed = self.settings.sizes, self.settings.seed
        looks = self.looks(cell)
        return looking.verdicts_at(look, looks, found, self.budgets, sizes, seed=seed, level=level)
