"""The one reporter: collects what all processes send, and hands it to the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.plugin import unmet
from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks import all_sinks
from pytest_sparsity.plugin.sinks.kernel_progress import bundled_checks
from pytest_sparsity.plugin.state import State
from pytest_sparsity.plugin.terminal import say, showing_warnings

#: How a session ends that was not cut short: what it measured may be stored.
_FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class Reporter:
    """Hooks of the process that owns the terminal.

    It is needed without a sweep, too, because any test may time something.
    """

    def __init__(self, config: pytest.Config, state: State) -> None:
        self._config = config
        self._settings = state.settings
        self._run = Run(config, state)
        self._sinks = all_sinks(self._run)
        self._only_collects = config.option.collectonly

    # -- before --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)  # before xdist starts its workers
    def pytest_sessionstart(self) -> None:
        """Find what cannot work, and get everything ready: one clear error, early."""
        if self._only_collects:
            return
        try:
            with showing_warnings(self._config):
                for sink in self._sinks:
                    sink.check()
                self._check_revision()
                self._check_kernels()
                if self._run.needs_models:
                    self._prepare_models()
                for sink in self._sinks:
                    sink.begin()
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from error

    def _check_revision(self) -> None:
        """Refuse a revision that is not there."""
        against = self._settings.against
        if against is None:
            return
        from pytest_sparsity.speed.gate.against import check, names_kernel

        if not names_kernel(against):
            folders = [str(self._config.rootpath), str(Path(__file__).resolve().parents[1])]
            for warning in check(against, folders):
                say(self._config, f"WARNING: {warning}", yellow=True)

    def _check_kernels(self) -> None:
        """Refuse a pattern that matches no kernel, before pytest-xdist starts processes."""
        if self._settings.kernels:
            from pytest_sparsity.plugin.chosen_kernels import kernels_of

            kernels_of(self._config)

    def _prepare_models(self) -> None:
        """Load models, tasks and texts, and read the budgets."""
        from pytest_sparsity.sweep import budgets, grid
        from pytest_sparsity.sweep.cell import TASK_KINDS

        settings, session = self._settings, self._run.state.session
        models = session.models.load_all()
        if self._run.sweeps_grid:
            session.check_methods()
        if self._run.sweeps_grid and settings.overrides is not None:
            budgets.check_swept(settings.overrides, self._run.grid())
        for evaluation in grid.evaluations(settings):
            if evaluation.partition(":")[0] in TASK_KINDS:
                session.texts.task_of(evaluation)
        _ = session.texts.calibration_corpus
        for model in models:
            for weights in settings.weights:
                session.calibrations.prepared(model, weights)

    def pytest_report_header(self) -> list[str]:
        """Say what a sweep measures, on what, and where the results go."""
        if not self._settings.sweep:
            return []
        settings, suites = self._settings, self._run.suites
        models = ", ".join(settings.models)
        measured = []
        if "kernels" in suites:
            measured.append(f"kernels with {settings.examples} examples per check")
        if "performance" in suites:
            measured.append("speed")
        if "claims" in suites:
            measured.append(f"claims about {models}")
        if self._run.sweeps_grid:
            measured.append(f"{models} at levels {', '.join(map(str, settings.levels))}")
        return [
            f"sparsity: {'; '.join(measured)} ({settings.profile} profile), report in "
            f"{settings.report}"
        ]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """See which cells and claims will run; with pytest-xdist, its workers collect them."""
        specs = [item.callspec for item in session.items if hasattr(item, "callspec")]
        if session.items:
            self._expect(
                sum("sparsity_cell" in spec.params for spec in specs),
                [
                    spec.params["sparsity_claim"]
                    for spec in specs
                    if "sparsity_claim" in spec.params
                ],
                [item.nodeid for item in session.items],
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """See what a worker will run; all have collected the same."""
        if not self._run.needs_models:
            self._expect(0, [], ids)
            return
        from pytest_sparsity.plugin.parametrize import claim_points

        points = claim_points(self._settings)
        cells = [cell.id for cell in self._run.grid()] if self._run.sweeps_grid else []
        self._expect(
            sum(_count(ids, cell) for cell in cells),
            [point for id, point in points.items() if _count(ids, id)],
            ids,
        )

    def _expect(self, cells: int, claims: Sequence[tuple[str, str]], ids: Sequence[str]) -> None:
        if not self._only_collects:
            for sink in self._sinks:
                sink.expect(cells, claims, bundled_checks(ids))

    # -- while it runs -------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """In a sweep cells and checks of kernels have lines of their own instead of dots."""
        if Sent.of(report).settled:  # after the last line
            return report.outcome, "", report.outcome.upper()
        if not self._settings.sweep or self._config.get_verbosity() != 0:
            return None
        sent = Sent.of(report)
        checked = sent.checks and bundled_checks([report.nodeid])
        if sent.cell is None and sent.finding is None and not checked:
            return None
        return report.outcome, "", report.outcome.upper()  # the word stands in the summary

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Collect what a test sent, from whichever process it comes."""
        sent = Sent.of(report)
        self._run.collect(sent)
        for sink in self._sinks:
            sink.receive(sent)

    # -- after ---------------------------------------------------------------------------

    def settle(self, session: pytest.Session) -> None:
        """Fail the tests of suspects that hold for the run, and the run with them."""
        if self._only_collects:
            return
        self._run.settle()
        failures = self._run.family.as_failures(self._settings.gate)
        for report in failures:
            self._config.hook.pytest_runtest_logreport(report=report)
        if failures and session.exitstatus == ExitCode.OK:
            session.exitstatus = ExitCode.FAILED

    @pytest.hookimpl(trylast=True)  # after xdist has stopped its workers
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, write everything, and fail a run that measured nothing of what it should."""
        if self._only_collects:
            return
        self._conclude(session)
        if session.exitstatus == ExitCode.OK and (missing := unmet.of_sweep(self._run)):
            self._complain(session, missing, ExitCode.NOTHING)
        for sink in self._sinks:
            try:
                with showing_warnings(self._config, before="\n"):
                    sink.write(finished=session.exitstatus in _FINISHED)
            except SparsityError as error:
                self._complain(session, str(error), ExitCode.NOT_WRITTEN)
        if session.exitstatus == ExitCode.OK and (missing := unmet.of_gate(self._run)):
            if self._settings.gate == "warn":
                say(self._config, f"\nWARNING: {missing}", yellow=True)
            else:
                self._complain(session, missing, ExitCode.NOTHING)

    def _conclude(self, session: pytest.Session) -> None:
        """Judge the grid, and tell other plugins of each verdict."""
        if not self._run.sweeps_grid:
            return
        try:
            with showing_warnings(self._config, before="\n"):
                self._run.conclude()
        except SparsityError as error:
            self._complain(session, str(error), ExitCode.NOT_WRITTEN)
        for verdict in self._run.verdicts:
            self._config.hook.pytest_sparsity_verdict(config=self._config, verdict=verdict)

    def _complain(self, session: pytest.Session, sentence: str, status: ExitCode) -> None:
        say(self._config, f"\nERROR: {sentence}", red=True)  # after a line of dots
        session.exitstatus = status

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the sections of all sinks."""
        for sink in self._sinks:
            sink.show(terminalreporter)


class Settling:
    """Settles the run before anyone writes a file about it, such as one for JUnit."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """See which suspects hold for the run."""
        self._reporter.settle(session)


def _count(ids: Sequence[str], parameter: str) -> int:
    """How many tests have ``parameter`` among their parameters, which ids have in brackets."""
    # pytest-xdist may put "@GROUP" behind the brackets.
    found = (f"-{id.partition('[')[2].rpartition(']')[0]}-" for id in ids)
    return sum(f"-{parameter}-" in parameters for parameters in found)
