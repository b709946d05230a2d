"""What a claim is decided on: the records of one model, measured when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pytest_sparsity.claims.losses import Losses
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import InUse
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.settings.options import OFF, TRAINED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import GENERATION, Cell, Configuration, on_text, product
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession

#: Ratio of the times of two functions, the first over the second.
Stopwatch = Callable[[Callable[[], object], Callable[[], object]], Interval]

#: What a threshold may skip less than its level says, as a fraction; with spontaneous neurons,
#: which give back some of what activations lost in size, and on other text than they were
#: calibrated on.
_POINTS, _POINTS_WITH_SPON = 0.02, 0.05


class CannotTest(Exception):
    """Something that a claim needs cannot be had here; the message says what and why."""


class BrokenEvidence(Exception):
    """Records contradict each other or themselves, so that no verdict may rest on them."""


@dataclass(eq=False)
class Evidence:
    """The records of one model, measured when they are first asked for.

    Every cell is measured once, with the documents and items of one draw: more would be chosen
    by what the first ones say, and a claim's figures would depend on who else measured.  Only
    the share of weights skipped is over all documents that a record has.

    Attributes:
        session: measures, or finds in the report folder.
        model: short name.
        stopwatch: for claims about time; None where times cannot be taken.
        used: every record that was asked for, by the id of its cell.
    """

    session: SweepSession
    model: str
    stopwatch: Stopwatch | None = None
    used: dict[str, Record] = field(default_factory=dict, init=False)

    @property
    def settings(self) -> Settings:
        """Settings of the session."""
        return self.session.settings

    def record(self, cell: Cell) -> Record:
        """The record of a cell, measured if need be.

        Raises:
            CannotTest: it cannot be measured.
            BrokenEvidence: it is not what it says it is.
        """
        if cell.id not in self.used:
            with self.needing(cell.id):
                found = self.session.record(cell)
            _check_skipped(found)
            self.used[cell.id] = found
        return self.used[cell.id]

    def gather(self, cells: Iterable[Cell]) -> None:
        """Measure cells in their order: the same weights and configuration are made only once.

        Vectors are looked for, or trained, before anything is measured.

        Raises:
            CannotTest: one cannot be measured.
            BrokenEvidence: one is not what it says it is.
        """
        needed = list(cells)
        self.need_vectors(cell.configuration for cell in needed)
        self.share_out(needed)
        for cell in needed:
            self.record(cell)

    def share_out(self, cells: Iterable[Cell]) -> None:
        """Measure those of the cells that no other process is measuring, and can be measured.

        Several processes may judge claims that have cells in common: each then measures other
        cells first, and waits only for those that are left.
        """
        for cell in cells:
            with suppress(InUse, SparsityError):  # whoever asks for the record is told
                self.session.record(cell, wait=False)

    def need_vectors(self, configurations: Iterable[Configuration]) -> None:
        """Look for the vectors of those that have any, or train them if that was asked for.

        Raises:
            CannotTest: there are none for one of them.
        """
        for configuration in dict.fromkeys(configurations):
            if configuration.spon == TRAINED:
                with self.needing(configuration.id):
                    self.session.plans.vectors(configuration)

    def has(self, cell: Cell) -> bool:
        """Whether a cell that is not indispensable can be measured; measures it."""
        try:
            self.record(cell)
        except CannotTest:
            return False
        return True

    def losses(
        self, corpus: str, configurations: Sequence[Configuration], confidence: float = 0.95
    ) -> Losses:
        """The negative log-likelihoods of configurations on the same documents.

        Args:
            corpus: name of an evaluation corpus.
            configurations: of this model.
            confidence: of the intervals that will be asked for.

        Raises:
            CannotTest: one cannot be measured.
            BrokenEvidence: they were not measured on the same documents.
        """
        cells = product(dict.fromkeys(configurations), [on_text(corpus)])
        documents = {c.configuration: self._documents(c) for c in cells}
        first = next(iter(documents.values()))
        shape = [(d["id"], d["tokens"]) for d in first]
        for cell in cells:
            if [(d["id"], d["tokens"]) for d in documents[cell.configuration]] != shape:
                raise BrokenEvidence(
                    f"{cell.id} was not measured on the same documents as {cells[0].id}"
                )
        return Losses(
            corpus=corpus,
            tokens=np.array([d["tokens"] for d in first], dtype=np.float64),
            nll={
                configuration: -np.array([sum(d["log_likelihoods"]) for d in found])
                for configuration, found in documents.items()
            },
            seed=self.settings.seed,
            confidence=confidence,
        )

    @staticmethod
    @contextmanager
    def needing(what: str) -> Iterator[None]:
        """Say of ``what`` that it cannot be had, if what is done with it is not possible.

        Raises:
            CannotTest: a SparsityError was raised inside.
        """
        try:
            yield
        except SparsityError as error:
            raise CannotTest(f"{what}: {error}") from error

    def time_ratio(self, first: Callable[[], object], second: Callable[[], object]) -> Interval:
        """Time of the first function over that of the second, taken side by side.

        Raises:
            CannotTest: times cannot be taken.
        """
        if self.stopwatch is None:
            raise CannotTest(
                "times are taken by pytest's fixture paired_benchmark, which is absent"
            )
        return self.stopwatch(first, second)

    def read(self) -> dict[str, tuple[int, int]]:
        """Per evaluation how many documents or items were read, and of how many."""
        texts, sizes = self.session.texts, self.settings.sizes
        found = {}
        for cell in {record.cell.evaluation: record.cell for record in self.used.values()}.values():
            if cell.kind == GENERATION:
                there = len(texts.first_corpus.documents)
            else:
                there = texts.available(cell)
            found[cell.evaluation] = (min(cell.units(sizes), there), there)
        return found

    def cost(self) -> dict[str, Any]:
        """What the evidence took: measuring, and per configuration calibration and training."""
        records = list(self.used.values())
        totals = {
            name: round(sum(record.cost[name] for record in records), 3)
            for name in ("seconds", "tokens")
        }
        preparation: dict[str, Mapping[str, Any]] = {
            record.cell.configuration.id: record.measured["preparation"]
            for record in records
            if "preparation" in record.measured
        }
        return {"measuring": totals, "preparation": preparation}

    def below_natural_zeros(self) -> str:
        """Which levels ask for less than is 0 by nature, as after ReLU; empty if none does."""
        levels: dict[str, set[float]] = {}
        for record in self.used.values():
            for site in record.measured.get("achieved", {}).get("plateau", ()):
                kind = site.rpartition(".")[2]
                levels.setdefault(kind, set()).add(record.cell.configuration.level)
        where = "; ".join(
            f"{kind} at {', '.join(f'{level:g}' for level in sorted(levels[kind]))}"
            for kind in levels
        )
        return where and f"below the rate of natural zeros, all of which are skipped: {where}"

    def _documents(self, cell: Cell) -> list[dict[str, Any]]:
        return self.record(cell).units[: self.settings.sizes.documents]


def _check_skipped(record: Record) -> None:
    """A threshold's configuration must have skipped what its level says, or it is another one.

    It may skip more: activations are smaller in the sparse model than in the dense one.
    """
    configuration = record.cell.configuration
    achieved = record.measured.get("achieved", {}).get("weighted")
    if configuration.method != "teal" or achieved is None:
        return
    room = _POINTS if configuration.spon == OFF else _POINTS_WITH_SPON
    if achieved < configuration.level - room:
        raise BrokenEvidence(
            f"{record.cell.id} skipped {achieved:.1%} of the weights, not {configuration.level:.1%}"
        )
