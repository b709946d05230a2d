"""The ``accuracy_gate`` fixture: holds cells against the records of a stored run."""

from __future__ import annotations

import warnings

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.plugin import junit
from pytest_sparsity.plugin.sent import GATED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.baseline import read_records
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import AccuracyComparison, judge_change
from pytest_sparsity.sweep.session import SweepSession


class AccuracyGate:
    """Compares cells of this run with stored ones, and concludes the test."""

    def __init__(self, session: SweepSession, settings: Settings, item: pytest.Item) -> None:
        self._session = session
        self._settings = settings
        self._item = item
        self._gated = item.stash.setdefault(GATED, [])

    def judge(self, before: Record) -> AccuracyComparison:
        """Compare the stored record's cell, measured if need be, as the gate does.

        The amount of data is the stored run's, up to what the profile may draw: it is fixed
        before anything is looked at.

        Raises:
            MissingVectors: the cell needs trained vectors, and there are none.
        """
        cell, session = before.cell, self._session
        if cell not in grid.cells(self._settings, session.models.load_all()):
            reason = (
                "the baseline has it and this sweep does not; run with the options of the stored "
                "run, or make the baseline again"
            )
            return AccuracyComparison(cell, Decision.NOT_COMPARABLE, reason)
        now = session.record(cell)
        for draws in range(2, self._settings.sizes.draws + 1):
            if len(now.units) >= len(before.units):
                break
            now = session.record(cell, draws)
        return judge_change(now, before, seed=self._settings.seed)

    def check(self, before: Record | None) -> AccuracyComparison | None:
        """Fail the test if accuracy was lost since ``before``; skip it if the data cannot tell.

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
        try:
            found = self.judge(before)
        except MissingVectors as missing:
            found = AccuracyComparison(before.cell, Decision.NOT_COMPARABLE, str(missing))
        self._gated.append(found.to_json())
        self._item.user_properties += junit.of_decision(found.decision, reason=found.reason)
        if found.decision is Decision.REGRESSED:
            if self._settings.gate == "fail":
                pytest.fail(found.message, pytrace=False)
            warnings.warn(SparsityWarning(found.message), stacklevel=2)
        elif not found.decision.decided:
            pytest.skip(f"{found.decision.value}: {found.message}")
        return found

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
    stored = read_records(folder)
    return [stored[cell] for cell in sorted(stored)] or [None]
