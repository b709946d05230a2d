"""The speed gate: times one kernel as the options ask, and decides whether it became slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.dispatch import obstacle
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.speed.gate import baseline, instructions, many, rules
from pytest_sparsity.speed.gate.against import NothingToCompare, Revision, names_kernel
from pytest_sparsity.speed.gate.contenders import (
    CONFIRM,
    SCREEN,
    Contender,
    ContenderFault,
    SamplingPlan,
    UnreliableTiming,
    compiled,
    counted,
    stage,
)
from pytest_sparsity.speed.gate.processes import Place, Processes
from pytest_sparsity.speed.gate.result import Measured
from pytest_sparsity.speed.gate.rules import SpeedComparison, not_comparable
from pytest_sparsity.speed.gate.static_metrics import Difference, differences
from pytest_sparsity.speed.gate.workload import Workload
from pytest_sparsity.targets import HardwareTarget


@dataclass
class TimedKernel:
    """What was measured and decided about one kernel.

    Attributes:
        kernel: its id.
        against: what it was compared with, in words; empty if it was not compared.
        workload: the operands; None if it cannot run here.
        contenders: the candidate, then what it was measured beside.
        comparison: the decision and its figures; None without a gate.
        differences: figures that changed.
        fault: what is wrong with the kernel itself; empty if nothing is.
        details: of the fault.
        skipped: why it was neither timed nor compiled; empty if it was.
        store: whether it belongs into the baseline.
        partial: whether rounds are missing.
    """

    kernel: str
    against: str = ""
    workload: Workload | None = None
    contenders: list[Contender] = field(default_factory=list)
    comparison: SpeedComparison | None = None
    differences: Sequence[Difference] = ()
    fault: str = ""
    details: str = ""
    skipped: str = ""
    store: bool = False
    partial: bool = False

    def measured(self, target: HardwareTarget, **about: Any) -> list[Measured]:
        """Everything that was measured, whole or not, the candidate first."""
        workload = self.workload
        if workload is None:
            return []
        about = {"partial": self.partial, **about}
        return [contender.measured(workload, target, **about) for contender in self.contenders]


class KernelTimer:
    """Judges kernels one after the other; not for several threads.

    Args:
        settings: what the user asked for.
        target: where kernels run.
        processes: of this session.
        versions: that times depend on.
        revision: if the settings name one.
    """

    def __init__(
        self,
        settings: Settings,
        target: HardwareTarget,
        processes: Processes,
        versions: Mapping[str, str | None],
        revision: Revision | None,
    ) -> None:
        self._settings = settings
        self._target = target
        self._processes = processes
        self._versions = versions
        self._revision = revision
        stored = settings.baseline is not None and settings.against is None
        self._path = settings.baseline / baseline.FILE if stored and settings.baseline else None
        #: What is being judged, for whoever is interrupted.
        self.current: TimedKernel | None = None
        self._level: float | None = None

    def judge(self, kernel: Kernel, level: float | None = None) -> TimedKernel:
        """Time a kernel, and hold it against what the settings name.

        Args:
            kernel: as registered.
            level: the largest p at which a regression stands among the decisions of a run; what
                has a larger one is suspect.  None where the kernel is alone, and its rule enough.

        Raises:
            SparsityError: there is no such kernel or revision, or the baseline is damaged.
        """
        settings = self._settings
        found = self.current = TimedKernel(kernel.id)
        self._level = level
        workload = Workload.of(
            kernel, self._target.kind, settings.profile == "smoke", settings.seed
        )
        found.workload = workload
        hindered = obstacle(kernel, self._target.kind, workload.case.dtype)
        if hindered is not None and not self._compiles(kernel):
            found.skipped = hindered
            return found
        candidate = Contender(kernel.id, kernel, Place.here())
        found.contenders.append(candidate)
        try:
            if self._compiles(kernel):
                compiled(candidate, self._processes)
            found.comparison = self._compared(found, hindered)
            if self._counts(kernel):
                for contender in found.contenders:
                    counted(contender, self._processes)
        except ContenderFault as fault:
            found.store, found.partial = False, True
            if fault.contender is candidate:
                found.fault, found.details = str(fault), fault.details
            else:
                found.comparison = not_comparable(f"{found.against} {fault}")
        except UnreliableTiming as doubt:
            found.store, found.partial = False, True
            found.comparison = SpeedComparison(Decision.INCONCLUSIVE, str(doubt))
        found.comparison = self._with_static_metrics(found)
        return found

    def _compiles(self, kernel: Kernel) -> bool:
        """Whether figures of compiled code are wanted and can be had."""
        wanted = self._settings.gate != "off" or self._settings.updating
        same = self._settings.against is None or not names_kernel(self._settings.against)
        return wanted and same and kernel.backend == "triton" and "triton" in self._known()

    def _counts(self, kernel: Kernel) -> bool:
        """Whether instructions are wanted and can be counted; it takes a compiler and seconds."""
        wanted = self._settings.gate != "off" or self._settings.updating
        large = self._settings.profile != "smoke"
        return wanted and large and kernel.backend == "native" and instructions.obstacle() is None

    def _known(self) -> set[str]:
        return {name for name, version in self._versions.items() if version is not None}

    def _compared(self, found: TimedKernel, hindered: str | None) -> SpeedComparison | None:
        settings = self._settings
        if settings.against is not None:
            return self._side_by_side(found, settings.against, hindered)
        if self._path is None:
            self._once(found, hindered)
            return None
        entry = baseline.read(self._path).get(found.kernel)
        if settings.update or (settings.update_new_only and entry is None):
            found.store = True
            for number in range(rules.STORED_PROCESSES if hindered is None else 0):
                # One after the other: a slow second of the machine is not in all of them.
                self._stage(found, found.contenders, range(number, number + 1), CONFIRM)
            return None
        if settings.gate == "off":
            self._once(found, hindered)
            return None
        found.against = f"the time stored in {self._path.parent.name}"
        return self._against_stored(found, entry, hindered)

    def _once(self, found: TimedKernel, hindered: str | None) -> None:
        if hindered is None:
            self._stage(found, found.contenders, range(1), SCREEN)

    def _side_by_side(
        self, found: TimedKernel, against: str, hindered: str | None
    ) -> SpeedComparison:
        (candidate,) = found.contenders
        kernel = candidate.kernel
        try:
            other = self._other_contender(kernel, found.workload, against)
        except NothingToCompare as missing:
            self._once(found, hindered)
            return not_comparable(str(missing))
        found.against = other.name if names_kernel(against) else f"itself at {against}"
        found.contenders.append(other)
        if self._compiles(kernel):
            compiled(other, self._processes)
        if hindered is not None:
            return not_comparable(f"not timed: {hindered}")
        tolerance = self._tolerance()
        seed = self._settings.seed
        self._stage(found, found.contenders, range(rules.PROCESSES), SCREEN)
        comparison = rules.ab_first(candidate.series(), other.series(), tolerance, seed=seed)
        if comparison.decision is Decision.OK:
            return comparison
        numbers, level = range(rules.PROCESSES), self._level
        rounds = CONFIRM.rounds if level is None else many.second_rounds(level)
        plan = replace(CONFIRM, rounds=rounds)
        self._stage(found, found.contenders, numbers, plan, fresh=True)
        ours, theirs = candidate.series(), other.series()
        second = rules.ab_second(ours, theirs, tolerance, seed=seed)
        return self._among_many(second, many.p_of_rounds(ours, theirs))

    def _among_many(self, found: SpeedComparison, p: float) -> SpeedComparison:
        """The decision of a kernel's own rule as one of the run's."""
        if found.decision is not Decision.REGRESSED:
            return found
        if self._level is None or p <= self._level:
            return replace(found, p=p)
        reason = f"{found.reason}, p = {p:.2g} alone"
        return replace(found, decision=Decision.SUSPECT, reason=reason, p=p)

    def _other_contender(
        self, kernel: Kernel, workload: Workload | None, against: str
    ) -> Contender:
        if names_kernel(against):
            other = registry.kernel(against)
            if other.id == kernel.id:
                raise NothingToCompare("it would be compared with itself")
            if other.op != kernel.op:
                raise NothingToCompare(f"{against} is of another op")
            assert workload is not None
            if reason := obstacle(other, self._target.kind, workload.case.dtype):
                raise NothingToCompare(reason)
            return Contender(other.id, other, Place.here())
        if self._revision is None:
            raise SparsityError(f"--sparsity-against {against}: no revision was given")
        return Contender(f"{kernel.id}@{against}", kernel, self._revision.place(kernel))

    def _against_stored(
        self, found: TimedKernel, entry: Measured | None, hindered: str | None
    ) -> SpeedComparison:
        self._once(found, hindered)
        if entry is None:
            return not_comparable(
                f"there is no entry for it in {self._path}; store one with "
                "--sparsity-update-new-only"
            )
        if hindered is not None:
            return not_comparable(f"not timed: {hindered}")
        if not entry.seconds:
            return not_comparable("its entry has no times; store them with --sparsity-update")
        (now,) = self._now(found)
        if reason := baseline.obstacle(entry, now):
            return not_comparable(reason)
        tolerance = self._settings.tolerance or rules.TOLERANCE_STORED
        needed = rules.PROCESSES if self._level is None else many.processes(self._level)
        while True:
            (now,) = self._now(found)
            comparison = rules.stored(
                min(entry.bests),
                entry.spread,
                now.bests,
                tolerance,
                now.processes[-1],
                found.contenders[0].noise,
                needed,
            )
            decided = comparison.decision is not Decision.INCONCLUSIVE
            if decided or len(now.processes) >= needed:
                if entry.source == now.source:
                    comparison = replace(
                        comparison, reason=f"{comparison.reason}, of the same source"
                    )
                return self._among_many(comparison, many.p_of_processes(len(now.processes)))
            number = len(now.processes)
            numbers = range(number, number + 1)
            self._stage(found, found.contenders, numbers, CONFIRM, fresh=True)

    def _now(self, found: TimedKernel) -> list[Measured]:
        return found.measured(self._target, versions=self._versions)

    def _with_static_metrics(self, found: TimedKernel) -> SpeedComparison | None:
        """The comparison, and a regression if a figure that needs no statistics got worse."""
        if found.comparison is None or found.fault:
            return found.comparison
        before: Mapping[str, int] = {}
        same_compiler = True
        if self._settings.against is not None:
            if len(found.contenders) == 2 and not names_kernel(self._settings.against):
                before = found.contenders[1].static_metrics
        elif self._path is not None and (entry := baseline.read(self._path).get(found.kernel)):
            before = entry.static_metrics
            now = baseline.minor(self._versions, "triton")
            same_compiler = baseline.minor(entry.versions, "triton") == now
            (current,) = self._now(found)
            if entry.case != current.case:
                before = {name: n for name, n in before.items() if " sm_" in name}
        found.differences = differences(before, found.contenders[0].static_metrics, same_compiler)
        worse = [str(difference) for difference in found.differences if difference.worse]
        if worse:
            return replace(
                found.comparison,
                decision=Decision.REGRESSED,
                p=0.0,  # counted, not timed: it is the same in every run
                reason=f"it takes more: {'; '.join(worse)}",
            )
        compared = set(before) & set(found.contenders[0].static_metrics)
        untimed = not any(rounds.count for rounds, _ in found.contenders[0].stages)
        if compared and untimed and found.comparison.decision is Decision.NOT_COMPARABLE:
            reason = f"{len(compared)} figures of its code are no worse; {found.comparison.reason}"
            return replace(found.comparison, decision=Decision.OK, reason=reason)
        return found.comparison

    def _stage(
        self,
        found: TimedKernel,
        contenders: Sequence[Contender],
        numbers: range,
        plan: SamplingPlan,
        fresh: bool = False,
    ) -> None:
        assert found.workload is not None
        stage(
            contenders,
            found.workload,
            self._processes,
            self._target,
            numbers=numbers,
            plan=plan,
            seed=self._settings.seed + len(contenders[0].stages),
            fresh=fresh,
        )

    def _tolerance(self) -> float:
        default = rules.TOLERANCE_CUDA if self._target.kind == "cuda" else rules.TOLERANCE_CPU
        return self._settings.tolerance or default
