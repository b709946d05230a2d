"""The history file: a point per run, for --sparsity-history and ``pytest-sparsity history``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.plugin.sinks.sink import Sink

if TYPE_CHECKING:
    from pytest_sparsity.speed.gate.result import Measured


class History(Sink):
    """Appends what this run measured."""

    def check(self) -> None:
        """Refuse a file that cannot be appended to."""
        if self.settings.history is not None:
            from pytest_sparsity.core.files import check_writable
            from pytest_sparsity.reporting.history.entries import check_appendable

            check_writable(self.settings.history.parent)
            check_appendable(self.settings.history)

    def write(self, finished: bool) -> None:
        """Append the run, if it is whole and measured anything."""
        if not finished or self.settings.history is None:
            return
        calls = self.run.measured()
        if calls or self.run.verdicts:
            whole = [call[0] for call in calls if not call[0].partial]
            self._append(self.settings.history, whole)

    def _append(self, path: Path, measured: Sequence[Measured]) -> None:
        """One line for this machine, and one for each other device that kernels were timed on."""
        from pytest_sparsity.core.git import revision_of
        from pytest_sparsity.core.provenance import versions
        from pytest_sparsity.reporting.history.entries import Entry, append
        from pytest_sparsity.targets import resolve_target

        revision = revision_of(self.run.config.rootpath)
        target = resolve_target(self.settings.target)
        devices = {each.target: each.device for each in measured}
        if self.run.verdicts:
            devices[target.fingerprint] = target.name
        metrics, when = self._metrics(), self.run.ended
        for fingerprint, device in sorted(devices.items()):
            seconds = {_series(m): m.best for m in measured if m.target == fingerprint}
            here = metrics if fingerprint == target.fingerprint else {}
            profile = self.settings.profile
            entry = Entry(when, fingerprint, device, profile, versions(), revision, seconds, here)
            append(path, entry)

    def _metrics(self) -> dict[str, dict[str, float]]:
        """Every finite metric, by cell."""
        found: dict[str, dict[str, float]] = {}
        for comparison in (verdict.comparison for verdict in self.run.verdicts):
            if math.isfinite(comparison.value.estimate):
                cell = found.setdefault(comparison.cell.id, {})
                cell[comparison.metric] = comparison.value.estimate
        return found


def _series(measured: Measured) -> str:
    """Name of the series that a time is a point of; each case of a kernel has its own."""
    return f"{measured.name} ({measured.case})" if measured.case else measured.name
