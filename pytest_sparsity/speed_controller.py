"""Times seen from the controlling process: speed.json, the baseline, and entries left over."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.errors import SparsityError, blaming

if TYPE_CHECKING:
    from pytest_sparsity.benchmarking.gate.result import Measured
    from pytest_sparsity.options import Settings

_RECORDS = "records.jsonl"
_FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class SpeedController:
    """Collects what items timed, from whichever process they come; also without a sweep."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._measured: set[str] = set()
        self._store: dict[str, Measured] = {}
        self._registered: set[str] = set()
        self._stored: dict[str, Measured] = {}

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
        settings = self._settings
        if settings.against is not None:
            from pytest_sparsity.benchmarking.gate.against import check, names_kernel

            if not names_kernel(settings.against):
                folders = [str(self._config.rootpath), str(Path(__file__).resolve().parent)]
                for warning in check(settings.against, folders):
                    self._say(f"WARNING: {warning}", yellow=True)
        if settings.baseline is not None and (settings.gate != "off" or settings.updating):
            with blaming("--sparsity-baseline"):
                self._check_baseline(settings.baseline)

    def _check_baseline(self, folder: Path) -> None:
        from pytest_sparsity.benchmarking.gate import baseline
        from pytest_sparsity.files import check_writable

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
        timed = getattr(report, "sparsity_timed", None)
        if timed is None:
            return
        from pytest_sparsity.benchmarking.gate import baseline
        from pytest_sparsity.benchmarking.gate.result import Measured

        measured = [Measured.from_json(content) for content in timed["measured"]]
        self._registered |= set(timed["registered"])
        self._measured |= {each.name for each in measured}
        if timed["store"]:
            self._store |= {each.name: each for each in measured[:1]}
        if measured:
            baseline.add(
                self._settings.report / baseline.FILE, {each.name: each for each in measured}
            )

    # Innermost: before the terminal reporter's, which prints the summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Store the baseline, unless the run was interrupted."""
        result = yield
        if self._store and session.exitstatus in _FINISHED:
            try:
                self._write_baseline()
            except SparsityError as error:
                self._say(f"\nERROR: {error}", red=True)
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return result

    def _write_baseline(self) -> None:
        from pytest_sparsity.benchmarking.gate import baseline

        folder = self._settings.baseline
        assert folder is not None  # or nothing was to be stored
        baseline.add(folder / baseline.FILE, self._store, keep=self._settings.update_new_only)
        self._say(f"\n{len(self._store)} entries stored in {folder / baseline.FILE}")

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

    def _say(self, line: str, **colour: bool) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(line, **colour)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}: {', '.join(names)}"] if names else []
