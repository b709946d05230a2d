"""How many of the cells that claims need are measured, by whichever process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.reporting.live import format_eta
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.code_hash import code_hash
from pytest_sparsity.sweep.store import RecordStore


class CellProgress:
    """Counts measured cells in the report folder, and reports them now and then from a thread.

    Claims share most of their cells and need very different numbers of them: how many claims are
    judged says little about how long the others will take.

    Args:
        store: of the report folder.
        cells: that the claims need.
        seed: of this run; records of other seeds, or of other code, do not count.
        report: takes a line.
        every: seconds between two counts.
    """

    def __init__(
        self,
        store: RecordStore,
        cells: Iterable[Cell],
        seed: int,
        report: Callable[[str], None],
        every: float = 30,
    ) -> None:
        self._store = store
        self._wanted = frozenset(cells)
        self._origin = (seed, code_hash())
        self._report = report
        self._every = every
        self._begun = time.monotonic()
        self._reused = self._reported = self._measured()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sparsity-cells", daemon=True)

    def start(self) -> None:
        """Report from a thread until :meth:`stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End the reports."""
        self._ended.set()
        self._thread.join()

    def eta(self) -> float | None:
        """Seconds until all cells are measured, if they go on as before; None if nobody knows."""
        try:
            return self._left(self._measured())
        except SparsityError:  # whoever measures fails with it, too, and says so
            return None

    def update(self) -> None:
        """Report how many cells are measured, if there are more than in the last report."""
        measured = self._measured()
        if measured > self._reported:
            self._reported = measured
            eta = format_eta(self._left(measured))
            self._report(f"{measured} of {len(self._wanted)} cells measured  eta {eta}")

    def _left(self, measured: int) -> float | None:
        fresh = measured - self._reused
        if not fresh:
            return None
        return (time.monotonic() - self._begun) / fresh * (len(self._wanted) - measured)

    def _measured(self) -> int:
        self._store.refresh()
        found = {
            r.cell for r in self._store if (r.key.get("seed"), r.key.get("code")) == self._origin
        }
        return len(found & self._wanted)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.update()
            except SparsityError:
                return
