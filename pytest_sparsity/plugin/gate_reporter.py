"""The gate seen from the controlling process: gathers decisions, writes what others read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.plugin.state import FINISHED, State
from pytest_sparsity.plugin.terminal import say, showing_warnings

if TYPE_CHECKING:
    from pytest_sparsity.reporting.github import Annotation
    from pytest_sparsity.sweep.cell import Cell
    from pytest_sparsity.sweep.verdict import Verdict
    from pytest_sparsity.timing.gate.result import Measured


class GateReporter:
    """Hooks that set a run beside others: decisions, history, benchmark.json, GitHub.

    Registered after the reporter of a sweep, so that its summary is there when this one is
    made; also without a sweep, because any test may time something.
    """

    def __init__(self, config: pytest.Config, state: State) -> None:
        self._config = config
        self._settings = state.settings
        self._state = state
        self._decided: list[Mapping[str, Any]] = []
        self._timed: list[list[dict[str, Any]]] = []  # per call, the candidate first
        self._stored = False  # whether times belong into the baseline
        self._verdicts: list[Verdict] = []
        self._annotations: list[Annotation] = []

    # -- before --------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """Refuse a baseline or a history that cannot be used, before anything is measured."""
        if self._config.option.collectonly:
            return
        try:
            with showing_warnings(self._config):
                self._check()
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from error

    def _check(self) -> None:
        settings = self._settings
        if settings.baseline is not None and (settings.gate != "off" or settings.updating):
            from pytest_sparsity.plugin.accuracy_gate import stored_records

            if settings.baseline.resolve() == settings.report.resolve():
                raise SparsityError(
                    f"--sparsity-baseline {settings.baseline}: this run reports there, which is "
                    "no other run; name another folder with --sparsity-report"
                )
            stored_records(settings)
        if settings.history is not None:
            from pytest_sparsity.core.files import check_writable
            from pytest_sparsity.history.entries import check_appendable

            check_writable(settings.history.parent)
            check_appendable(settings.history)

    # -- while it runs -------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Gather what a test decided and timed, and where it failed."""
        decided = getattr(report, "sparsity_gate", ())
        self._decided += decided
        for timed in getattr(report, "sparsity_timed", ()):
            self._timed.append(timed["measured"])
            self._stored |= timed["store"]
        if report.failed and (decided or self._settings.sweep):
            self._annotations.append(self._annotation("error", report))
        elif any(each["decision"] == "regressed" for each in decided):
            self._annotations.append(self._annotation("warning", report))

    def pytest_sparsity_verdict(self, verdict: Verdict) -> None:
        """Gather the sweep's verdicts."""
        self._verdicts.append(verdict)

    def _annotation(self, level: str, report: Any) -> Annotation:
        """At the test, or at the kernel's source where that is known: the suite is not theirs."""
        from pytest_sparsity.reporting.github import Annotation

        decided = getattr(report, "sparsity_gate", ())
        file, line, _ = report.location
        place, at = self._config.rootpath / file, (line or 0) + 1
        for source in (each["source"] for each in decided if each.get("source")):
            place, _, number = source.rpartition(":")
            place, at = Path(place), int(number)
        reasons = [f"{each['id']}: {each['reason']}" for each in decided]
        message = "\n".join(reasons) or str(report.longreprtext).strip()
        return Annotation(level, report.nodeid.rpartition("/")[2], message, place, at)

    # -- after ---------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files; a gate that compared nothing is not green."""
        if session.config.option.collectonly:
            return
        try:
            with showing_warnings(self._config, before="\n"):
                self._write(session)
        except SparsityError as error:
            say(self._config, f"\nERROR: {error}", red=True)
            session.exitstatus = ExitCode.NOT_WRITTEN
            return
        if session.exitstatus == pytest.ExitCode.OK and (idle := self._idle()):
            if self._settings.gate == "warn":
                say(self._config, f"\nWARNING: {idle}", yellow=True)
                return
            say(self._config, f"\nERROR: {idle}", red=True)
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def _idle(self) -> str:
        """What the run was to do and has not done; empty if there is nothing."""
        from pytest_sparsity.reporting.gate import compared

        settings = self._settings
        storing = settings.updating and settings.baseline is not None
        stored = storing and bool(self._stored or self._verdicts)
        if settings.gate != "off" and not (compared(self._decided) or stored):
            return "the gate compared nothing: nothing was tested"
        if settings.update and storing and not stored:
            return f"nothing was stored in {settings.baseline}"
        return ""

    def _write(self, session: pytest.Session) -> None:
        from pytest_sparsity.core.files import atomic_write

        settings = self._settings
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        if measured := self._measured():
            from pytest_sparsity.reporting import benchmark_json as export

            everything = [each for call in measured for each in call]
            content = export.benchmark_json(everything, when, self._config.rootpath)
            atomic_write(settings.report / export.FILE, content)
        if settings.gate != "off":
            against = str(settings.against or settings.baseline or "")
            from pytest_sparsity.reporting import gate

            content = gate.gate_json(settings.gate, self._decided, self._unmatched(), against)
            atomic_write(settings.report / gate.FILE, content)
        if session.exitstatus not in FINISHED:
            return  # interrupted: neither a baseline nor a point of a history
        if settings.updating and settings.baseline is not None and self._verdicts:
            self._store_records(settings.baseline)
        if settings.history is not None and (measured or self._verdicts):
            self._append_history(
                settings.history, when, [call[0] for call in measured if not call[0].partial]
            )

    def _measured(self) -> list[list[Measured]]:
        """What was timed, per call, without what was interrupted before it had a time."""
        if not self._timed:
            return []
        from pytest_sparsity.timing.gate.result import Measured

        calls = [[Measured.from_json(each) for each in call] for call in self._timed]
        found = [[each for each in call if each.seconds] for call in calls]
        return [call for call in found if call]

    def _store_records(self, folder: Path) -> None:
        from pytest_sparsity.sweep.baseline import write_records

        session = self._state.session
        found = [record for cell in self._cells() if (record := session.known(cell)) is not None]
        write_records(folder, found, new_only=self._settings.update_new_only)

    def _append_history(self, path: Path, when: str, measured: list[Measured]) -> None:
        """One line for this machine, and one for each other device that kernels were timed on."""
        from pytest_sparsity.core.git import revision_of
        from pytest_sparsity.core.provenance import versions
        from pytest_sparsity.history.entries import Entry, append
        from pytest_sparsity.targets import resolve_target

        revision = revision_of(self._config.rootpath)
        target = resolve_target(self._settings.target)
        devices = {each.target: each.device for each in measured}
        if self._verdicts:
            devices[target.fingerprint] = target.name
        metrics = self._metrics()
        for fingerprint, device in sorted(devices.items()):
            seconds = {_benchmark_id(m): m.best for m in measured if m.target == fingerprint}
            here = metrics if fingerprint == target.fingerprint else {}
            profile = self._settings.profile
            entry = Entry(when, fingerprint, device, profile, versions(), revision, seconds, here)
            append(path, entry)

    def _metrics(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for comparison in (verdict.comparison for verdict in self._verdicts):
            if math.isfinite(comparison.value.estimate):
                cell = found.setdefault(comparison.cell.id, {})
                cell[comparison.metric] = comparison.value.estimate
        return found

    def _cells(self) -> list[Cell]:
        return list(dict.fromkeys(verdict.comparison.cell for verdict in self._verdicts))

    def _unmatched(self) -> list[str]:
        """Cells that were measured and have no stored record; none where none was looked for."""
        stored = {each["id"] for each in self._decided if each["kind"] == "accuracy"}
        return [cell.id for cell in self._cells() if cell.id not in stored] if stored else []

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what the gate decided, and tell GitHub if it is listening."""
        if self._decided:
            from pytest_sparsity.reporting import gate

            terminalreporter.section("sparsity gate")
            lines = gate.gate_lines(self._decided, self._unmatched())
            terminalreporter.write("\n".join(lines) + "\n\n")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            self._tell_github(terminalreporter)

    def _tell_github(self, terminalreporter: Any) -> None:
        from pytest_sparsity.reporting import gate, github

        workspace = Path(os.environ.get("GITHUB_WORKSPACE", self._config.rootpath))
        for annotation in self._annotations[: github.ANNOTATIONS]:
            terminalreporter.write_line(github.command(annotation, workspace))
        if not (path := os.environ.get("GITHUB_STEP_SUMMARY")):
            return
        summary = self._settings.report / "summary.md"
        parts = [gate.gate_markdown(self._decided, self._unmatched())] if self._decided else []
        if self._verdicts and summary.exists():
            parts.append(summary.read_text(encoding="utf-8"))
        if parts:
            github.add_to_summary(Path(path), "\n".join(parts))


def _benchmark_id(measured: Measured) -> str:
    """Another case is another series."""
    return f"{measured.name} ({measured.case})" if measured.case else measured.name
