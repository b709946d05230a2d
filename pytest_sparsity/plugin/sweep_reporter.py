"""A sweep seen from the controlling process: prepare, show cells as they finish, sum up."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.plugin.state import State
from pytest_sparsity.plugin.terminal import say, showing_warnings
from pytest_sparsity.settings.settings import Settings, resumed, to_json

if TYPE_CHECKING:
    from pytest_sparsity.claims.cell_progress import CellProgress
    from pytest_sparsity.claims.log import FindingLog
    from pytest_sparsity.reporting.kernels import KernelLog
    from pytest_sparsity.sweep.cell import Cell, Configuration
    from pytest_sparsity.sweep.skipped import Skipped
    from pytest_sparsity.sweep.verdict import Verdict

SETTINGS_FILE = "settings.json"


class SweepReporter:
    """Hooks that only a sweep needs, registered on the process that owns the terminal."""

    def __init__(self, config: pytest.Config, state: State) -> None:
        self._config = config
        self._state = state
        bundled = config.args_source is not pytest.Config.ArgsSource.ARGS
        #: The bundled suites that run; a user's own tests may measure anything, or nothing.
        self._suites = state.settings.suites if bundled else ()
        self._grid = not bundled or "accuracy" in self._suites
        # Suites of kernels alone need no model; performance tests load what they time.
        self._models = self._grid or "claims" in self._suites
        self._prepared = False
        self._total = 0
        self._done = 0
        self._measured = 0  # cells that were not reused
        self._begun: float | None = None  # when the first cell was
        self._without_vectors: list[Configuration] = []
        self._checks: KernelLog | None = None
        self._findings: FindingLog | None = None
        self._watch: CellProgress | None = None
        self._results: tuple[list[Verdict], dict[Cell, Skipped]] = ([], {})
        self._plateaus: dict[Configuration, tuple[str, ...]] = {}

    # -- before --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)  # before xdist starts its workers
    def pytest_sessionstart(self) -> None:
        """Get models, text and budgets ready before the first test: one clear error, early."""
        if self._config.option.collectonly:
            return
        try:
            with showing_warnings(self._config):
                self._prepare()
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from error
        self._prepared = True
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None and self._config.get_verbosity() == 0:
            terminal.showfspath = False  # every cell has a line of its own

    def _prepare(self) -> None:
        from pytest_sparsity.core.errors import blaming
        from pytest_sparsity.core.files import atomic_write, check_writable

        settings = self._state.settings
        if settings.updating and settings.budgets is not None:
            with blaming("--sparsity-update"):
                check_writable(settings.budgets.parent)
        with blaming("--sparsity-report"):
            check_writable(settings.report)
        if self._models:
            self._prepare_models()
        saved = json.dumps(to_json(settings), indent=1)
        atomic_write(settings.report / SETTINGS_FILE, f"{saved}\n")

    def _prepare_models(self) -> None:
        from pytest_sparsity.sweep import budgets, grid
        from pytest_sparsity.sweep.cell import TASK_KINDS

        settings, session = self._state.settings, self._state.session
        models = session.models.load_all()
        if self._grid and settings.overrides is not None:
            budgets.check_swept(settings.overrides, self._cells())
        for evaluation in grid.evaluations(settings):
            if evaluation.partition(":")[0] in TASK_KINDS:
                session.texts.task_of(evaluation)
        _ = session.texts.calibration_corpus
        for model in models:
            for weights in settings.weights:
                session.calibrations.prepared(model, weights)

    def pytest_report_header(self) -> list[str]:
        """Say what is measured, on what, and where the results go."""
        settings = self._state.settings
        measured = []
        if "kernels" in self._suites:
            measured.append(f"kernels with {settings.examples} examples per check")
        if "performance" in self._suites:
            measured.append("speed")
        if "claims" in self._suites:
            measured.append(f"claims about {', '.join(settings.models)}")
        if self._grid:
            measured.append(
                f"{', '.join(settings.models)} at levels {', '.join(map(str, settings.levels))}"
            )
        return [
            f"sparsity: {'; '.join(measured)} ({settings.profile} profile), report in "
            f"{settings.report}"
        ]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """See which cells and claims will run; with pytest-xdist, its workers collect them."""
        if session.items:
            specs = [item.callspec for item in session.items if hasattr(item, "callspec")]
            self._expect(
                sum("sparsity_cell" in spec.params for spec in specs),
                [
                    spec.params["sparsity_claim"]
                    for spec in specs
                    if "sparsity_claim" in spec.params
                ],
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """See what a worker will run; all have collected the same."""
        if not self._models:
            return
        from pytest_sparsity.plugin.parametrize import claim_points

        points = claim_points(self._state.settings)
        cells = [cell.id for cell in self._cells()] if self._grid else []
        self._expect(
            sum(_count(ids, cell) for cell in cells),
            [point for id, point in points.items() if _count(ids, id)],
        )

    def _expect(self, cells: int, claims: Sequence[tuple[str, str]]) -> None:
        """Begin to count, once it is known which cells and which claims about which model."""
        self._total = cells
        if not claims or not self._prepared or self._findings is not None:
            return
        from pytest_sparsity.claims.catalog import CATALOG
        from pytest_sparsity.claims.cell_progress import CellProgress
        from pytest_sparsity.claims.log import FindingLog

        settings = self._state.settings
        needed = [c for number, model in claims for c in CATALOG[number].cells(model, settings)]
        self._findings = FindingLog(len(claims))
        self._watch = CellProgress(self._state.session.store, needed, settings.seed, self._tell)
        self._watch.start()

    # -- while it runs -------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """A measured cell prints a line of its own instead of a dot."""
        told = hasattr(report, "sparsity") or hasattr(report, "sparsity_finding")
        if self._config.get_verbosity() == 0 and told:
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Print the line of a finished cell, from whichever process it comes."""
        if checked := getattr(report, "sparsity_checks", None):
            self._log_checks(checked)
        if (found := getattr(report, "sparsity_finding", None)) is not None:
            self._log_finding(found)
        told = getattr(report, "sparsity", None)
        if told is None:
            return
        self._done += 1
        self._measured += not told["reused"]
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is None or self._config.get_verbosity() < 0:
            return
        from pytest_sparsity.reporting.live import progress_line

        if self._begun is None:  # other suites may have run before it
            self._begun = time.monotonic() - report.duration
        elapsed = time.monotonic() - self._begun
        left = max(0, self._total - self._done)
        eta = elapsed / self._measured * left if self._measured else None
        terminal.ensure_newline()
        terminal.write_line(progress_line(told["line"], self._done, self._total, eta))

    def _log_finding(self, found: Mapping[str, Any]) -> None:
        if self._findings is None:  # a test whose id does not name its claim
            self._expect(self._total, [(found["finding"]["claim"], found["finding"]["model"])])
        assert self._findings is not None
        assert self._watch is not None
        self._tell(self._findings.add(found, self._watch.eta()))

    def _tell(self, line: str) -> None:
        if self._config.get_verbosity() >= 0:
            say(self._config, line)

    def _log_checks(self, outcomes: Sequence[Mapping[str, Any]]) -> None:
        if self._checks is None:
            from pytest_sparsity.core.provenance import versions
            from pytest_sparsity.reporting.kernels import KernelLog
            from pytest_sparsity.targets import host_target

            origin = {
                "seed": self._state.settings.seed,
                "target": host_target().fingerprint,
                "versions": versions(),
                "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            self._checks = KernelLog(self._state.settings.report, origin)
        self._checks.add(outcomes)

    # -- after ---------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)  # after xdist has stopped its workers
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the summary; a sweep that measured nothing is not green."""
        if self._watch is not None:
            self._watch.stop()
        if not self._prepared:
            return
        try:
            if self._grid:
                self._results = self._write_summary()
        except SparsityError as error:
            self._complain(str(error))
            session.exitstatus = ExitCode.NOT_WRITTEN
            return
        # A user's own tests, and the performance suite, may rightly measure no cell.
        measured = any(v.comparison.change is not None for v in self._results[0])
        if "accuracy" in self._suites and not measured:
            self._measured_nothing(session, "measured no sparse cell")
        if "kernels" in self._suites and not (self._checks and self._checks.ran):
            self._measured_nothing(session, "checked no kernel")
        if "claims" in self._suites and not (self._findings and self._findings.judged):
            self._measured_nothing(session, "judged no claim")

    def _measured_nothing(self, session: pytest.Session, what: str) -> None:
        if session.exitstatus == pytest.ExitCode.OK:
            self._complain(f"the sweep {what}: nothing was tested")
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the tables."""
        if self._checks is not None:
            terminalreporter.section("sparsity kernels")
            terminalreporter.write(f"{self._checks.table()}\n\n")
        if self._findings is not None and (found := self._findings.table(_width())):
            terminalreporter.section("sparsity claims")
            terminalreporter.write(f"{found}\n\n")
        if not self._results[0]:
            return
        from pytest_sparsity.reporting.table import terminal_tables

        terminalreporter.section("sparsity")
        notes = self._state.session.methods.notes
        tables = terminal_tables(*self._results, notes, width=_width())
        terminalreporter.write(f"{tables}\n\n")
        for configuration in self._without_vectors:
            terminalreporter.write_line(
                f"not measured: {configuration.id}, for which there are no trained vectors; "
                "train them with --sparsity-train=missing"
            )
        for configuration, sites in self._plateaus.items():
            terminalreporter.write_line(
                f"{configuration.id}: the level is below the rate of natural zeros of "
                f"{len(sites)} sites ({sites[0]} to {sites[-1]}), all of which are skipped"
            )
        reused = self._done - self._measured
        terminalreporter.write_line(
            f"{self._done} cells: {self._measured} measured, {reused} reused; results in "
            f"{self._state.settings.report}"
        )

    def _complain(self, sentence: str) -> None:
        say(self._config, f"\nERROR: {sentence}", red=True)  # after a line of dots

    def _cells(self) -> list[Cell]:
        from pytest_sparsity.sweep import grid

        return grid.cells(self._state.settings, self._state.session.models.load_all())

    def _write_summary(self) -> tuple[list[Verdict], dict[Cell, Skipped]]:
        from pytest_sparsity.core.provenance import versions
        from pytest_sparsity.plugin.events import sections
        from pytest_sparsity.reporting.summary import Origin, write_summary

        session, settings = self._state.session, self._state.settings
        cells = self._cells()
        verdicts, skipped = session.summary(cells), session.skipped(cells)
        self._without_vectors = session.without_vectors(cells)
        self._plateaus = session.plateaus(cells)
        for verdict in verdicts:
            self._config.hook.pytest_sparsity_verdict(config=self._config, verdict=verdict)
        if verdicts:
            origin = Origin(
                command=shlex.join(["pytest", *self._config.invocation_params.args]),
                target=session.target.name,
                versions=versions(),
                data=session.texts.sources(),
                when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
            options, notes = to_json(settings), session.methods.notes
            added = sections(self._config, verdicts)
            write_summary(settings.report, verdicts, skipped, options, origin, notes, added)
        if settings.updating and settings.budgets is not None:
            from pytest_sparsity.sweep.propose import propose

            propose(
                settings.budgets,
                verdicts,
                to_json(settings),
                session.target.name,
                keep=settings.update_new_only,
            )
        return verdicts, skipped


def _width() -> int:
    return max(100, min(shutil.get_terminal_size().columns, 160))


def _count(ids: Sequence[str], parameter: str) -> int:
    """How many tests have ``parameter`` among theirs, by what their ids have in brackets."""
    # pytest-xdist may put "@GROUP" behind the brackets.
    found = (f"-{id.partition('[')[2].rpartition(']')[0]}-" for id in ids)
    return sum(f"-{parameter}-" in parameters for parameters in found)


def resume(settings: Settings) -> Settings:
    """The settings of the run in the report folder.

    Raises:
        SparsityError: there is no run to resume, or its settings cannot be read.
    """
    path: Path = settings.report / SETTINGS_FILE
    try:
        saved = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SparsityError(
            f"--sparsity-resume: there is no run in {settings.report}; leave the option out or "
            "name the folder of a run with --sparsity-report"
        ) from error
    except (OSError, ValueError) as error:
        raise SparsityError(
            f"--sparsity-resume: {path} cannot be read ({error}); start anew with the options of "
            "the first run, finished cells are reused"
        ) from error
    return resumed(settings, saved if isinstance(saved, dict) else {})
