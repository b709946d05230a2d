"""What the gate decided: gate.json, and a section on the terminal."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.plugin.sinks.sink import Sink


class GateFile(Sink):
    """Writes and shows decisions."""

    def write(self, finished: bool) -> None:
        """Write gate.json where something is gated."""
        settings = self.settings
        if settings.gate == "off":
            return
        from pytest_sparsity.core.files import atomic_write
        from pytest_sparsity.reporting import gate

        against = str(settings.against or settings.baseline or "")
        content = gate.gate_json(
            settings.gate, self.run.decisions, self.run.without_baseline(), against
        )
        atomic_write(settings.report / gate.FILE, content)

    def show(self, terminal: Any) -> None:
        """Print what was decided, worst first."""
        if self.run.decisions:
            from pytest_sparsity.reporting import gate

            terminal.section("sparsity gate")
            lines = gate.gate_lines(self.run.decisions, self.run.without_baseline())
            terminal.write("\n".join(lines) + "\n\n")
