"""What each check makes of each mutant, kept in docs/mutants.json, and run where it is missing."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation import Mutant
from switched_off import VARIABLE

from pytest_sparsity.checking.api import _import
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.checking.runner import EXAMPLES, CheckResult
from pytest_sparsity.core.files import atomic_write, locked
from pytest_sparsity.kernels import build, registry

STORE = Path(__file__).parents[2] / "docs" / "mutants.json"
_SWITCHED_OFF = Path(__file__).with_name("switched_off.py").resolve()
#: Imported where kernels are checked, it puts computed bounds in place of those by hand.
_COMPUTED = Path(__file__).with_name("computed.py").resolve()
#: Instead of a group of cases: bounds by hand are switched off.
COMPUTED = "bounds by hand"
_ALL = tuple(CHECKS)


@dataclass(frozen=True)
class Cell:
    """What a check made of a mutant.

    Attributes:
        status: as in :class:`CheckResult`.
        examples: cases that were run, up to the one that failed.
        message: its first line, without paths, of a failure.
    """

    status: str
    examples: int = 0
    message: str = ""

    @classmethod
    def of(cls, outcome: CheckResult) -> Cell:
        if outcome.status != "failed":
            return cls(outcome.status, outcome.examples)
        # Paths are this machine's, and say nothing.
        message = re.sub(r"/\S*/", "", outcome.message.splitlines()[0])
        return cls(outcome.status, outcome.examples, message)

    @property
    def killed(self) -> bool:
        return self.status == "failed"


#: By the name of the check.
Row = dict[str, Cell]


class Outcomes:
    """All that is known, by mutants: rows of all cases, and of all but one group of them."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self._stored: dict[str, Any] = dict(stored)

    @classmethod
    def read(cls) -> Outcomes:
        """What the store has; nothing if there is none yet."""
        return cls(json.loads(STORE.read_text()) if STORE.exists() else {})

    def write(self, mutants: Iterable[Mutant]) -> None:
        """Keep what is known of these mutants, one line each, in their order."""
        names = [mutant.name for mutant in mutants if mutant.name in self._stored]
        lines = [f"{json.dumps(name)}: {json.dumps(self._stored[name])}" for name in names]
        atomic_write(STORE, "{\n" + ",\n".join(lines) + "\n}\n")

    def keep(self, mutants: Iterable[Mutant], mutant: Mutant, row: Row, without: str = "") -> None:
        """Add a row to the store, to which others may write at the same time."""
        with locked(build.folder() / "mutants.lock"):
            self._stored = self.read()._stored
            for check, cell in row.items():
                self.put(mutant, check, cell, without)
            self.write(mutants)

    def row(self, mutant: Mutant, without: str = "") -> Row:
        """What is known of a mutant as it is now.

        Args:
            mutant: that was checked.
            without: the group of cases that was switched off, if one was.
        """
        stored = self._stored.get(mutant.name, {})
        if stored.get("source") != mutant.source:
            return {}
        cells = stored.get("without", {}).get(without, {}) if without else stored["checks"]
        return {check: Cell(*cells[check]) for check in _ALL if check in cells}

    def put(self, mutant: Mutant, check: str, cell: Cell, without: str = "") -> None:
        """Keep what a check made of it; what is known of other sources of it is dropped."""
        stored = self._stored.get(mutant.name, {})
        if stored.get("source") != mutant.source:
            stored = self._stored[mutant.name] = {"source": mutant.source, "checks": {}}
        cells = stored["checks"]
        if without:
            cells = stored.setdefault("without", {}).setdefault(without, {})
        cells[check] = [cell.status, cell.examples, cell.message]

    def killers(self, mutant: Mutant, without: str = "") -> set[str]:
        """The checks that are known to kill it."""
        return {check for check, cell in self.row(mutant, without).items() if cell.killed}

    def complete(self, mutant: Mutant, without: str = "") -> bool:
        """Whether all checks were run."""
        return len(self.row(mutant, without)) == len(_ALL)


def run(
    outcomes: Outcomes,
    mutants: Sequence[Mutant],
    *,
    until_death: bool = False,
    without: str = "",
    processes: int = 1,
) -> Iterator[tuple[Mutant, Row]]:
    """Run the checks whose outcome is not known, and give each mutant when it is done.

    Args:
        outcomes: what is known.
        mutants: to be checked.
        until_death: no more checks than up to the first that kills, the mutant's own first.
        without: a group of cases to switch off, or ``COMPUTED``.
        processes: mutants at a time.
    """
    local = threading.local()
    pools: list[Pool] = []
    lock = threading.Lock()

    def one(mutant: Mutant) -> tuple[Mutant, Row]:
        if not hasattr(local, "pool"):
            local.pool = Pool()
            pools.append(local.pool)
        with lock:
            module = mutant.module()
            _import(module)
        kernel, row = registry.kernel(mutant.id), outcomes.row(mutant, without)
        modules: tuple[str, ...] = (module,)
        if without:
            modules = (str(_COMPUTED if without == COMPUTED else _SWITCHED_OFF), module)
        for check in sorted(_ALL, key=lambda check: check != mutant.killer):
            if until_death and any(cell.killed for cell in row.values()):
                break
            if check not in row:
                found = local.pool.run_check(kernel, check, EXAMPLES, 0, None, modules)
                row[check] = Cell.of(found)
        return mutant, row

    with (
        _switched_off("" if without == COMPUTED else without),
        ThreadPoolExecutor(processes) as threads,
    ):
        waiting = [threads.submit(one, mutant) for mutant in mutants]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for each in waiting:
                each.cancel()
            for pool in pools:
                pool.close()


@contextmanager
def _switched_off(group: str) -> Iterator[None]:
    os.environ[VARIABLE] = group
    try:
        yield
    finally:
        del os.environ[VARIABLE]
