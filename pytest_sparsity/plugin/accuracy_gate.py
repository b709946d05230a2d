"""The ``accuracy_gate`` fixture: holds cells against the records of a stored run."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.plugin import junit
from pytest_sparsity.plugin.deciding import FINE, RED, SUSPECT, level_of, tell
from pytest_sparsity.plugin.sent import GATED
from pytest_sparsity.settings.options import WEIGHTS
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.baseline import read_records
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.changes import FROM_DENSE
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import (
    DAMAGE,
    AccuracyComparison,
    judge_change,
    judge_damage,
)
from pytest_sparsity.sweep.renaming import other_name, renamed
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.store import FILE


class AccuracyGate:
    """Compares cells of this run with stored ones, and concludes the test."""

    def __init__(self, session: SweepSession, settings: Settings, item: pytest.Item) -> None:
        self._session = session
        self._settings = settings
        self._item = item
        self._gated = item.stash.setdefault(GATED, [])

    def judge(self, before: Record) -> AccuracyComparison:
        """Compare the stored record's cell, measured if need be, as the gate does.

        With ``--sparsity-across=weights`` the cell may be of a changed model, also of one with
        another name where the stored run and this one have one model each that the other lacks.

        The amount of data is the stored run's, up to what the profile may draw: it is fixed
        before anything is looked at.

        Raises:
            MissingVectors: the cell needs trained vectors, and there are none.
        """
        before = self._as_now(before)
        cell = before.cell
        if cell not in grid.cells(self._settings, self._session.models.load_all()):
            reason = (
                "the baseline has it and this sweep does not; run with the options of the stored "
                "run, make the baseline again, or hold a model under another name against it with "
                "--sparsity-across=weights"
            )
            return AccuracyComparison(cell, Decision.NOT_COMPARABLE, reason)
        across = self._settings.across == WEIGHTS
        now = self._measured(cell, len(before.units))
        return judge_change(now, before, seed=self._settings.seed, across=across)

    def judge_damage(self, before: Record) -> AccuracyComparison | None:
        """Compare what sparsity costs with what it cost in the stored run.

        Returns:
            None where the cell has no damage of its own, see :func:`~.regression.judge_damage`.

        Raises:
            MissingVectors: the cell needs trained vectors, and there are none.
        """
        before = self._as_now(before)
        cell = before.cell
        if cell.configuration.is_reference or cell.kind in FROM_DENSE:
            return None
        dense = {self._as_now(r).cell: self._as_now(r) for r in self._stored()}.get(cell.dense)
        if dense is None:
            reason = "the stored run lacks the dense model; make the baseline again"
            return AccuracyComparison(cell, Decision.NOT_COMPARABLE, reason, part=DAMAGE)
        now, dense_now = (self._measured(r.cell, len(r.units)) for r in (before, dense))
        return judge_damage(now, dense_now, before, dense, seed=self._settings.seed)

    def _measured(self, cell: Cell, wanted: int) -> Record:
        """The cell's record with as many units as are wanted, up to what the profile may draw."""
        now = self._session.record(cell)
        for draws in range(2, self._settings.sizes.draws + 1):
            if len(now.units) >= wanted:
                break
            now = self._session.record(cell, draws)
        return now

    def _stored(self) -> list[Record]:
        return [record for record in stored_records(self._settings) if record is not None]

    def _as_now(self, record: Record) -> Record:
        """A stored record under the name that the model has now, if that is clear."""
        if self._settings.across != WEIGHTS:
            return record
        now = list(self._session.models.load_all())
        return renamed(
            record, other_name((r.cell.configuration.model for r in self._stored()), now)
        )

    def check(self, before: Record | None) -> AccuracyComparison | None:
        """Fail the test if accuracy was lost since ``before``; skip it if the data cannot tell.

        What was lost by itself, but not so surely that it holds among all decisions of the run,
        is suspect: it is skipped, and fails when the run is over if it holds then.

        Args:
            before: of the stored run; None when there is no stored run to compare with.
        """
        __tracebackhide__ = True
        if before is None:
            reason = self._nothing_stored()
            self._gated.append(
                {
                    "kind": "accuracy",
                    "id": "all cells",
                    "decision": Decision.NOT_COMPARABLE.value,
                    "reason": reason,
                    "figures": {},
                }
            )
            pytest.skip(reason)
        damage = None
        try:
            found = self.judge(before)
            if self._settings.across == WEIGHTS and found.decision is not Decision.NOT_COMPARABLE:
                damage = self.judge_damage(before)
        except MissingVectors as missing:
            found = AccuracyComparison(before.cell, Decision.NOT_COMPARABLE, str(missing))
        level = level_of(self._item)
        found = found.at(level)
        judged = [found, *([] if damage is None else [damage.at(level)])]
        for each in judged:
            self._tell(each)
            self._gated.append(each.to_json())
            self._item.user_properties += junit.of_decision(each.decision, reason=each.reason)
        if worse := [each.message for each in judged if each.decision is Decision.REGRESSED]:
            if self._settings.gate == "fail":
                pytest.fail("\n".join(worse), pytrace=False)
            warnings.warn(SparsityWarning("; ".join(worse)), stacklevel=2)
        elif open_ := [each for each in judged if not each.decision.decided]:
            pytest.skip("; ".join(f"{each.decision.value}: {each.message}" for each in open_))
        return found

    def _tell(self, found: AccuracyComparison) -> None:
        """Leave the decision for the run, if anything was compared."""
        if found.evidence is None:
            return
        states = {Decision.REGRESSED: RED, Decision.SUSPECT: SUSPECT}
        state = states.get(found.decision, FINE)
        tell(self._item, "accuracy", state, found.evidence, message=found.message, gated=found.id)

    def _nothing_stored(self) -> str:
        if self._settings.baseline is None:
            return "no stored run to compare accuracy with; name one with --sparsity-baseline"
        return (
            f"--sparsity-baseline {self._settings.baseline} holds no records.jsonl to compare "
            "accuracy with; add them with --sparsity-update"
        )


def stored_records(settings: Settings) -> list[Record | None]:
    """What the gate runs over: every stored record, by cell, or one None if there is none.

    Raises:
        SparsityError: the baseline is damaged.
    """
    folder = settings.baseline
    if folder is None or (settings.updating and not folder.is_dir()):
        return [None]
    stored = _read(folder, (folder / FILE).stat().st_mtime_ns if (folder / FILE).exists() else 0)
    return [stored[cell] for cell in sorted(stored)] or [None]


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int) -> dict[Cell, Record]:
    """The stored run, read once while nobody changes it: every test of the gate asks for it."""
    return read_records(folder)
