"""What one session has measured and decided so far, from all of its processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.settling import Family
from pytest_sparsity.plugin.state import State

if TYPE_CHECKING:
    from pytest_sparsity.settings.settings import Settings
    from pytest_sparsity.speed.gate.result import Measured
    from pytest_sparsity.sweep.cell import Cell, Configuration
    from pytest_sparsity.sweep.session import SweepSession
    from pytest_sparsity.sweep.skipped import Skipped
    from pytest_sparsity.sweep.verdict import Verdict


@dataclass
class Run:
    """The results of a session: the reporter collects them, sinks read them.

    Attributes:
        config: of the session.
        state: settings, and the sweep made from them.
        decisions: of the gate, as plain data.
        timed: what was timed, call by call, as plain data.
        checks: results of kernel checks, as plain data.
        findings: about claims, as plain data.
        cells: how many cells tests have shown.
        reused: how many of them were measured by an earlier run.
        verdicts: one per metric of every cell of the grid; empty until the session ends.
        skipped: how much of the model was skipped, by configuration and corpus.
        without_vectors: configurations that were not measured for want of trained vectors.
        left_out: documents that were not measured, by corpus and model.
        plateaus: sites at which natural zeros are more than the level, by configuration.
    """

    config: pytest.Config
    state: State
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    timed: list[Mapping[str, Any]] = field(default_factory=list)
    checks: list[Mapping[str, Any]] = field(default_factory=list)
    findings: list[Mapping[str, Any]] = field(default_factory=list)
    cells: int = 0
    reused: int = 0
    verdicts: Sequence[Verdict] = ()
    skipped: Mapping[Cell, Skipped] = field(default_factory=dict)
    without_vectors: Sequence[Configuration] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    plateaus: Mapping[Configuration, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """What the user asked for."""
        return self.state.settings

    @cached_property
    def suites(self) -> Sequence[str]:
        """The bundled suites that run; a user's own tests may measure anything, or nothing."""
        bundled = self.config.args_source is not pytest.Config.ArgsSource.ARGS
        return self.settings.suites if self.settings.sweep and bundled else ()

    @cached_property
    def sweeps_grid(self) -> bool:
        """Whether tests run over the grid of cells: all but those of other bundled suites."""
        return self.settings.sweep and (not self.suites or "accuracy" in self.suites)

    @cached_property
    def needs_models(self) -> bool:
        """Whether models are loaded before the first test.

        Suites of kernels alone need none; performance tests load what they time.
        """
        return self.sweeps_grid or "claims" in self.suites

    @cached_property
    def ended(self) -> str:
        """When results were first written, for all files: ISO time, UTC."""
        return datetime.now(timezone.utc).isoformat(timespec="seconds")

    @cached_property
    def family(self) -> Family:
        """All decisions together."""
        return Family(self.settings.run_error)

    def settle(self) -> None:
        """See which suspects hold for the run; of the gate they are regressed then."""
        self.family.settle(self.settings.seed)
        held = {d["gated"] for d, _ in self.family.promoted() if "gated" in d}
        self.decisions = [
            {**each, "decision": "regressed"}
            if each["decision"] == "suspect" and each["id"] in held
            else each
            for each in self.decisions
        ]

    def collect(self, sent: Sent) -> None:
        """Take what one test sent."""
        if sent.decided:
            self.family.collect(sent)
        self.decisions += sent.decisions
        self.timed += sent.timed
        self.checks += sent.checks
        if sent.finding is not None:
            self.findings.append(sent.finding)
        if sent.cell is not None:
            self.cells += 1
            self.reused += sent.cell["reused"]

    def conclude(self) -> None:
        """Judge every cell of the grid that was measured.

        Raises:
            SparsityError: a record cannot be read.
        """
        session, cells = self.state.session, self.grid()
        self.skipped = session.skipped(cells)
        self.without_vectors = session.without_vectors(cells)
        self.left_out = session.left_out(cells)
        self.plateaus = session.plateaus(cells)
        self.verdicts = self._verdicts(session, cells)

    def _verdicts(self, session: SweepSession, cells: Sequence[Cell]) -> list[Verdict]:
        """Those of this run as it settled them; those of earlier runs by the whole report."""
        from pytest_sparsity.core.statistics.family import adjusted

        error = self.settings.run_error
        looks = self.family.looks
        spoken = {cell: looks[cell.id] for cell in cells if cell.id in looks}
        budgeted = sum(len(session.budgets.of(cell)) for cell in cells)
        found = session.summary(cells, spoken, error / max(1, budgeted))
        evidence = [v.evidence for v in found if v.evidence is not None]
        p = dict(self.family.p)
        if any(each.id not in p for each in evidence):
            p = adjusted(evidence, seed=self.settings.seed) | p
        return [v if v.evidence is None else v.for_the_run(p[v.evidence.id], error) for v in found]

    def grid(self) -> list[Cell]:
        """The cells that the options ask for."""
        from pytest_sparsity.sweep import grid

        return grid.cells(self.settings, self.state.session.models.load_all())

    @property
    def stores_times(self) -> bool:
        """Whether something was timed for the baseline."""
        return any(call["store"] for call in self.timed)

    def measured(self) -> list[list[Measured]]:
        """What was timed, per call, without what was interrupted before it had a time."""
        if not self.timed:
            return []
        from pytest_sparsity.speed.gate.result import Measured

        calls = [[Measured.from_json(each) for each in call["measured"]] for call in self.timed]
        found = [[each for each in call if each.seconds] for call in calls]
        return [call for call in found if call]

    def judged_cells(self) -> list[Cell]:
        """The cells that have verdicts."""
        return list(dict.fromkeys(verdict.comparison.cell for verdict in self.verdicts))

    def without_baseline(self) -> list[str]:
        """Ids of judged cells that have no stored record; none where none was looked for."""
        stored = {each["id"] for each in self.decisions if each["kind"] == "accuracy"}
        return [cell.id for cell in self.judged_cells() if cell.id not in stored] if stored else []
