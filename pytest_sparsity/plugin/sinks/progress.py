"""A line on the terminal for every finished cell and claim, with an estimate of what is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks.sink import Sink
from pytest_sparsity.plugin.terminal import say

if TYPE_CHECKING:
    from pytest_sparsity.claims.cell_progress import CellProgress


class ProgressLines(Sink):
    """Shows results of a sweep as they come."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._verbosity = run.config.get_verbosity()
        self._cells = 0
        self._claims = 0
        self._started: float | None = None  # when the first cell was
        self._progress: CellProgress | None = None

    def begin(self) -> None:
        """Keep pytest from printing names of files between the lines of cells."""
        terminal = self.run.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None and self._verbosity == 0:
            terminal.showfspath = False

    def expect(
        self,
        cells: int,
        claims: Sequence[tuple[str, str]],
        checks: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Remember how many cells there are; of claims, count cells as they are measured."""
        self._cells = cells
        if not claims or self._progress is not None:
            return
        from pytest_sparsity.claims.catalog import CATALOG
        from pytest_sparsity.claims.cell_progress import CellProgress

        settings, store = self.settings, self.run.state.session.store
        needed = [c for number, model in claims for c in CATALOG[number].cells(model, settings)]
        self._claims = len(claims)
        self._progress = CellProgress(store, needed, settings.seed, self._print)
        self._progress.start()

    def receive(self, sent: Sent) -> None:
        """Print the line of a finished claim or cell."""
        if sent.finding is not None:
            self._show_finding()
        if sent.cell is not None and self._verbosity >= 0:
            self._show_cell(sent.cell["line"], sent.report.duration)

    def write(self, finished: bool) -> None:
        """Stop counting."""
        if self._progress is not None:
            self._progress.stop()

    def _show_cell(self, line: str, seconds: float) -> None:
        from pytest_sparsity.reporting.live import progress_line

        if self._started is None:  # other suites may have run before it
            self._started = time.monotonic() - seconds
        measured = self.run.cells - self.run.reused
        left = max(0, self._cells - self.run.cells)
        elapsed = time.monotonic() - self._started
        eta = elapsed / measured * left if measured else None
        say(self.run.config, progress_line(line, self.run.cells, self._cells, eta))

    def _show_finding(self) -> None:
        from pytest_sparsity.claims.log import finding_line
        from pytest_sparsity.reporting.live import progress_line

        found, count = self.run.findings[-1], len(self.run.findings)
        if self._progress is None:  # a test whose id does not name its claim
            self.expect(self._cells, [(found["finding"]["claim"], found["finding"]["model"])])
        assert self._progress is not None
        line = finding_line(found)
        self._print(progress_line(line, count, self._claims, self._progress.eta()))

    def _print(self, line: str) -> None:
        if self._verbosity >= 0:
            say(self.run.config, line)
