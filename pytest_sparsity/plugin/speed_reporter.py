"""Times seen from the controlling process: speed.json, the baseline, and entries left over."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.core.errors import SparsityError, blaming
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.plugin.state import FINISHED
from pytest_sparsity.plugin.terminal import say

if TYPE_CHECKING:
    from pytest_sparsity.settings.settings import Settings
    from pytest_sparsity.timing.gate.result import Measured

_RECORDS = "records.jsonl"


class SpeedReporter:
    """Collects what items timed, from whichever process they come; also without a sweep."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._measured: set[str] = set()
        self._store: dict[str, Measured] = {}
        self._registered: set[str] = set()
        self._stored: dict[str, Measured] = {}
        self._unwritten = ""  # why times could not be written

    @pytest.hookimpl(tryfirst=True)  # before xdist starts its workers
    def pytest_sessionstart(self) -> None:
        """Refuse what cannot work before anything is measured."""
        if self._config.option.collectonly:
            return
        try:
            self._check()
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from error

    def _check(self) -> None:
        from pytest_sparsity.timing.gate import baseline

        settings = self._settings
        with blaming("--sparsity-report"):
            baseline.read(settings.report / baseline.FILE)  # times are added to it
        if settings.against is not None:
            from pytest_sparsity.timing.gate.against import check, names_kernel

            if not names_kernel(settings.against):
                folders = [str(self._config.rootpath), str(Path(__file__).resolve().parents[1])]
                for warning in check(settings.against, folders):
                    say(self._config, f"WARNING: {warning}", yellow=True)
        if settings.baseline is not None and (settings.gate != "off" or settings.updating):
            with blaming("--sparsity-baseline"):
                self._check_baseline(settings.baseline)

    def _check_baseline(self, folder: Path) -> None:
        from pytest_sparsity.core.files import check_writable
        from pytest_sparsity.timing.gate import baseline

        path = folder / baseline.FILE
        self._stored = baseline.read(path)
        if self._settings.updating:
            check_writable(folder)
        elif not path.exists() and not (folder / _RECORDS).exists():
            raise SparsityError(
                f"{folder} holds no stored run (neither {path.name} nor {_RECORDS}), so nothing "
                "would be compared; store one with --sparsity-update"
            )

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write what an item timed at once, so that Ctrl-C loses nothing."""
        if not (calls := getattr(report, "sparsity_timed", ())):
            return
        from pytest_sparsity.timing.gate import baseline
        from pytest_sparsity.timing.gate.result import Measured

        fresh: dict[str, Measured] = {}
        for timed in calls:
            measured = {m.name: m for m in map(Measured.from_json, timed["measured"])}
            self._registered |= set(timed["registered"])
            if timed["store"]:
                self._store |= dict([*measured.items()][:1])
            fresh |= measured
        self._measured |= set(fresh)
        try:
            if fresh:
                baseline.add(self._settings.report / baseline.FILE, fresh)
        except SparsityError as error:  # told when the session ends
            self._unwritten = str(error)

    # Innermost: before the terminal reporter's, which prints the summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Store the baseline, unless the run was interrupted."""
        result = yield
        if self._store and session.exitstatus in FINISHED:
            try:
                self._write_baseline()
            except SparsityError as error:
                self._unwritten = str(error)
        if self._unwritten:
            say(self._config, f"\nERROR: {self._unwritten}", red=True)
            session.exitstatus = ExitCode.NOT_WRITTEN
        return result

    def _write_baseline(self) -> None:
        from pytest_sparsity.timing.gate import baseline

        folder = self._settings.baseline
        assert folder is not None  # or nothing was to be stored
        baseline.add(folder / baseline.FILE, self._store, keep=self._settings.update_new_only)
        say(self._config, f"\n{len(self._store)} entries stored in {folder / baseline.FILE}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name the entries of the baseline that nothing was compared with."""
        if not self._registered:
            return
        stale = sorted(set(self._stored) - self._registered)
        unused = sorted(set(self._stored) & self._registered - self._measured)
        lines = [
            *_listed("stale (no such kernel is registered any more)", stale),
            *_listed("unused (not looked at in this run)", unused),
        ]
        if lines:
            terminalreporter.section("sparsity baseline")
            terminalreporter.write("\n".join(lines) + "\n")


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}: {', '.join(names)}"] if names else []
