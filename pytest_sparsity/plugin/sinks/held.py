"""Which decisions hold for the run as a whole, at the end on the terminal."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.plugin.sinks.sink import Sink


class HeldForTheRun(Sink):
    """Shows what is beyond its limit by itself, and whether it holds among all decisions."""

    def show(self, terminal: Any) -> None:
        """Print a section if there is anything of that kind."""
        family = self.run.family
        if not (found := list(family.standing_out())):
            return
        terminal.section("sparsity: verdicts that hold for the run")
        for id, decided in found:
            word = "holds" if family.holds(id) else "suspect"
            p = family.p.get(id, 1.0)
            terminal.write_line(f"{word:<8} p = {p:<8.2g} {decided['message']}")
        terminal.write_line(f"{family.told}\n")
