"""The entries of a stored speed.json that nothing was compared with in this run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sinks.sink import Sink


class LeftOver(Sink):
    """Names stored kernels that are not registered any more, or were not timed."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._stored: frozenset[str] = frozenset()

    def check(self) -> None:
        """Read what is stored, where the gate or an update uses it."""
        settings = self.settings
        if settings.baseline is not None and (settings.gate != "off" or settings.updating):
            from pytest_sparsity.speed.gate import baseline

            with blaming("--sparsity-baseline"):
                self._stored = frozenset(baseline.read(settings.baseline / baseline.FILE))

    def show(self, terminal: Any) -> None:
        """Print a section if there are such entries."""
        timed = self.run.timed
        registered = {id for call in timed for id in call["registered"]}
        if not registered:
            return
        measured = {each["name"] for call in timed for each in call["measured"]}
        lines = [
            *_line("stale (no such kernel is registered any more)", self._stored - registered),
            *_line("unused (not looked at in this run)", self._stored & registered - measured),
        ]
        if lines:
            terminal.section("sparsity baseline")
            terminal.write("\n".join(lines) + "\n")


def _line(what: str, names: Collection[str]) -> list[str]:
    return [f"{what}: {', '.join(sorted(names))}"] if names else []
