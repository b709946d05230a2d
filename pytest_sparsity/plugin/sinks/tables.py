"""The tables of a sweep at the end of the session, on the terminal."""

from __future__ import annotations

import shutil
from typing import Any

from pytest_sparsity.plugin.sinks.sink import Sink


class Tables(Sink):
    """Shows kernels, claims and the grid, a section each."""

    def show(self, terminal: Any) -> None:
        """Print the sections of what was measured."""
        if self.run.checks:
            from pytest_sparsity.reporting import kernel_table

            lines = [kernel_table.table(self.run.checks), *kernel_table.remarks(self.run.checks)]
            terminal.section("sparsity kernels")
            terminal.write("\n".join(lines) + "\n\n")
        if self.run.findings:
            from pytest_sparsity.claims.log import findings_table

            terminal.section("sparsity claims")
            terminal.write(f"{findings_table(self.run.findings, _width())}\n\n")
        if self.run.verdicts:
            self._show_grid(terminal)

    def _show_grid(self, terminal: Any) -> None:
        from pytest_sparsity.reporting.table import terminal_tables

        run, notes = self.run, self.run.state.session.methods.notes
        terminal.section("sparsity")
        tables = terminal_tables(run.verdicts, run.skipped, notes, width=_width())
        terminal.write(f"{tables}\n\n")
        for configuration in run.without_vectors:
            terminal.write_line(
                f"not measured: {configuration.id}, for which there are no trained vectors; "
                "train them with --sparsity-train=missing"
            )
        for configuration, sites in run.plateaus.items():
            terminal.write_line(
                f"{configuration.id}: the level is below the rate of natural zeros of "
                f"{len(sites)} sites ({sites[0]} to {sites[-1]}), all of which are skipped"
            )
        counts = ""
        if run.cells:  # a user's own tests may measure without showing cells
            counts = f"{run.cells} cells: {run.cells - run.reused} measured, {run.reused} reused; "
        terminal.write_line(f"{counts}results in {self.settings.report}")


def _width() -> int:
    return max(100, min(shutil.get_terminal_size().columns, 160))
