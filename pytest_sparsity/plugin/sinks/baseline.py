"""The stored run that later runs are compared with: its records, and its times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.core.errors import SparsityError, blaming
from pytest_sparsity.plugin.sinks.sink import Sink
from pytest_sparsity.plugin.terminal import say

if TYPE_CHECKING:
    from pytest_sparsity.speed.gate.result import Measured


class Baseline(Sink):
    """Stores this run in the folder of --sparsity-baseline, if --sparsity-update says so."""

    def check(self) -> None:
        """Refuse a stored run that is damaged, missing, or this run itself."""
        settings = self.settings
        if settings.baseline is None or (settings.gate == "off" and not settings.updating):
            return
        with blaming("--sparsity-baseline"):
            self._check_times(settings.baseline)
        from pytest_sparsity.plugin.accuracy_gate import stored_records

        if settings.baseline.resolve() == settings.report.resolve():
            raise SparsityError(
                f"--sparsity-baseline {settings.baseline}: this run reports there, which is "
                "no other run; name another folder with --sparsity-report"
            )
        stored_records(settings)

    def _check_times(self, folder: Path) -> None:
        from pytest_sparsity.core.files import check_writable
        from pytest_sparsity.speed.gate import baseline
        from pytest_sparsity.sweep.store import FILE as RECORDS

        times = folder / baseline.FILE
        if self.settings.updating:
            check_writable(folder)
        elif not times.exists() and not (folder / RECORDS).exists():
            raise SparsityError(
                f"{folder} holds no stored run (neither {times.name} nor {RECORDS}), so nothing "
                "would be compared; store one with --sparsity-update"
            )

    def write(self, finished: bool) -> None:
        """Store records and times, unless the run is not whole."""
        if not finished or not self.settings.updating or self.settings.baseline is None:
            return
        if self.run.verdicts:
            self._store_records(self.settings.baseline)
        if entries := self._entries():
            from pytest_sparsity.speed.gate import baseline

            path = self.settings.baseline / baseline.FILE
            baseline.add(path, entries, keep=self.settings.update_new_only)
            say(self.run.config, f"\n{len(entries)} entries stored in {path}")

    def _store_records(self, folder: Path) -> None:
        from pytest_sparsity.sweep.baseline import write_records

        session, cells = self.run.state.session, self.run.judged_cells()
        found = [record for cell in cells if (record := session.known(cell)) is not None]
        write_records(folder, found, new_only=self.settings.update_new_only)

    def _entries(self) -> dict[str, Measured]:
        """What was timed for the baseline: of each call, the candidate."""
        calls = [call for call in self.run.timed if call["store"] and call["measured"]]
        if not calls:
            return {}
        from pytest_sparsity.speed.gate.result import Measured

        found = (Measured.from_json(call["measured"][0]) for call in calls)
        return {measured.name: measured for measured in found}
