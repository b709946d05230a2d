"""The ``degradation`` fixture: measure how much a sparse model loses, and assert limits."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.plugin import junit
from pytest_sparsity.plugin.deciding import level_of, level_of_next, tell_verdict
from pytest_sparsity.plugin.sent import MEASURED
from pytest_sparsity.reporting.live import cell_line
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.budgets import Budget, is_minimum
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison, evaluation_of
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.verdict import Outcome, Verdict


class Degradation:
    """Measures a configuration against the dense model.

    Everything is measured once and stored: tests that ask for the same cell share its
    record, also across processes and runs.

    Attributes:
        configuration: the one under test.
    """

    configuration: Configuration

    def __init__(
        self, session: SweepSession, configuration: Configuration, item: pytest.Item
    ) -> None:
        self._session = session
        self._item = item
        self.configuration = configuration

    def record(self, evaluation: str) -> Record:
        """What ``evaluation`` measured, for example ``perplexity:austen``."""
        return self._session.record(Cell(self.configuration, evaluation))

    def measure(self, evaluation: str) -> list[Comparison]:
        """Every metric of ``evaluation``, with paired intervals."""
        return self._session.compare(Cell(self.configuration, evaluation))

    def assert_within(self, metric: str, limit: float) -> Verdict | None:
        """Assert that the damage in ``metric`` is at most ``limit``.

        Fails the test if the whole interval is beyond the limit, and so surely that it holds
        among all decisions of the run; skips it if it is only suspect, if the data do not
        decide or trained vectors are missing.  Returns None where there is nothing to
        limit: for the dense model, and for the recovery without spontaneous neurons.

        Args:
            metric: ``perplexity:CORPUS`` (relative increase), ``kl:CORPUS`` (nats per
                token), ``agreement:CORPUS`` (share lost), ``accuracy:TASK`` (drop as a
                share) and the other metrics of :class:`~.sweep.metric.Comparison`, or
                ``recovery:CORPUS``, whose limit is the smallest share accepted.
            limit: the budget.

        Raises:
            SparsityError: there is no such metric.
        """
        __tracebackhide__ = True
        configuration, evaluation = self.configuration, evaluation_of(metric)
        if configuration.is_reference or (is_minimum(metric) and configuration.spon == OFF):
            return None
        budget = Budget(self.configuration, metric, limit, is_minimum(metric), "this test")
        level, cell = level_of_next(self._item), Cell(configuration, evaluation)
        try:
            verdicts = self._session.hold(cell, budget, level)
        except MissingVectors as missing:
            pytest.skip(str(missing))
        found = {verdict.comparison.metric: verdict for verdict in verdicts}
        if metric not in found:
            raise SparsityError(
                f"metric {metric!r} is not measured for {self.configuration.id}; it has "
                f"{', '.join(found)}"
            )
        verdict = found[metric]
        if verdict.evidence is not None:
            here = f"{self._item.nodeid} {metric} {budget.limit_text}"
            verdict = replace(verdict, evidence=replace(verdict.evidence, id=here))
        tell_verdict(self._item, verdict)
        self._item.user_properties += junit.of_verdicts([verdict])
        conclude([verdict])
        return verdict

    def check(self, evaluation: str) -> list[Verdict]:
        """Hold every metric of ``evaluation`` against the budgets in force.

        Fails the test if a metric is beyond its budget; skips it, with the reason, if the
        data do not decide, if there is no budget, or if trained vectors are missing.
        """
        __tracebackhide__ = True
        cell = Cell(self.configuration, evaluation)
        started = time.monotonic()
        try:
            reused = self._session.known(cell) is not None
            verdicts = self._session.judge(cell, self._level(cell))
        except MissingVectors as missing:
            pytest.skip(str(missing))
        self._send(verdicts, time.monotonic() - started, reused)
        conclude(verdicts)
        return verdicts

    def _level(self, cell: Cell) -> float:
        """How sure a verdict must be; the budgets of a test's own cell were counted before."""
        params = getattr(getattr(self._item, "callspec", None), "params", {})
        if params.get("sparsity_cell") == cell:
            return level_of(self._item)
        return level_of_next(self._item, len(self._session.budgets.of(cell)))

    def _send(self, verdicts: list[Verdict], seconds: float, reused: bool) -> None:
        """Send what was measured to the reporter, and keep it as JUnit properties."""
        for verdict in verdicts:
            tell_verdict(self._item, verdict)
        self._item.user_properties += junit.of_verdicts(verdicts)
        self._item.stash[MEASURED] = {
            "line": cell_line(verdicts, seconds, reused),
            "reused": reused,
        }


def conclude(verdicts: list[Verdict]) -> None:
    """Turn verdicts into pytest's outcome: fail, skip with the reason, or pass.

    A suspect is skipped: whether it holds is known when all tests of the run are done.
    """
    __tracebackhide__ = True
    by_outcome = {
        outcome: [v.message for v in verdicts if v.outcome is outcome] for outcome in Outcome
    }
    if failed := by_outcome[Outcome.FAIL]:
        pytest.fail("\n".join(failed), pytrace=False)
    if suspect := by_outcome[Outcome.SUSPECT]:
        pytest.skip("suspect: " + "; ".join(suspect))
    if undecided := by_outcome[Outcome.INCONCLUSIVE]:
        pytest.skip("inconclusive: " + "; ".join(undecided))
    if refused := by_outcome[Outcome.REFUSED]:
        pytest.skip("no evidence: " + "; ".join(refused))
    if len(by_outcome[Outcome.NO_BUDGET]) == len(verdicts):
        pytest.skip("measured, but there is no budget: " + by_outcome[Outcome.NO_BUDGET][0])
