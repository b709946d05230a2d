"""The speed gate: times one kernel as the options ask, and rules on it."""

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
from pytest_sparsity.targets import HardwareTarget
from pytest_sparsity.timing.gate import baseline, rules
from pytest_sparsity.timing.gate.against import NotThere, Revision, names_kernel
from pytest_sparsity.timing.gate.companions import Difference, differences
from pytest_sparsity.timing.gate.processes import Place, Processes
from pytest_sparsity.timing.gate.result import Measured
from pytest_sparsity.timing.gate.rules import Ruling, not_comparable
from pytest_sparsity.timing.gate.sides import (
    GLANCE,
    STARE,
    Doubtful,
    Faulty,
    Look,
    Side,
    compiled,
    stage,
)
from pytest_sparsity.timing.gate.subject import Subject


@dataclass
class Judged:
    """What came of one kernel.

    Attributes:
        kernel: its id.
        against: what it was compared with, in words; empty if with nothing.
        subject: the operands; None if it cannot run here.
        sides: the candidate, then what it was measured beside.
        ruling: on its times and figures; None if nothing is gated.
        differences: figures that changed.
        fault: what is wrong with the kernel itself; empty if nothing is.
        details: of the fault.
        skipped: why it was neither timed nor compiled; empty if it was.
        store: whether it belongs into the baseline.
        partial: whether rounds are missing.
    """

    kernel: str
    against: str = ""
    subject: Subject | None = None
    sides: list[Side] = field(default_factory=list)
    ruling: Ruling | None = None
    differences: Sequence[Difference] = ()
    fault: str = ""
    details: str = ""
    skipped: str = ""
    store: bool = False
    partial: bool = False

    def measured(self, target: HardwareTarget, **about: Any) -> list[Measured]:
        """Everything that was measured, whole or not, the candidate first."""
        subject = self.subject
        if subject is None:
            return []
        about = {"partial": self.partial, **about}
        return [side.measured(subject, target, **about) for side in self.sides]


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
        self.current: Judged | None = None

    def judge(self, kernel: Kernel) -> Judged:
        """Time a kernel, and hold it against what the settings name.

        Raises:
            SparsityError: there is no such kernel or revision, or the baseline is damaged.
        """
        settings = self._settings
        found = self.current = Judged(kernel.id)
        subject = Subject.of(kernel, self._target.kind, settings.profile == "smoke", settings.seed)
        found.subject = subject
        hindered = obstacle(kernel, self._target.kind, subject.case.dtype)
        if hindered is not None and not self._compiles(kernel):
            found.skipped = hindered
            return found
        candidate = Side(kernel.id, kernel, Place.here())
        found.sides.append(candidate)
        try:
            if self._compiles(kernel):
                compiled(candidate, self._processes)
            found.ruling = self._ruled(found, hindered)
        except Faulty as fault:
            found.store, found.partial = False, True
            if fault.side is candidate:
                found.fault, found.details = str(fault), fault.details
            else:
                found.ruling = not_comparable(f"{found.against} {fault}")
        except Doubtful as doubt:
            found.store, found.partial = False, True
            found.ruling = Ruling(Decision.INCONCLUSIVE, str(doubt))
        found.ruling = self._with_companions(found)
        return found

    def _compiles(self, kernel: Kernel) -> bool:
        """Whether figures of compiled code are wanted and can be had."""
        wanted = self._settings.gate != "off" or self._settings.updating
        same = self._settings.against is None or not names_kernel(self._settings.against)
        return wanted and same and kernel.backend == "triton" and "triton" in self._known()

    def _known(self) -> set[str]:
        return {name for name, version in self._versions.items() if version is not None}

    def _ruled(self, found: Judged, hindered: str | None) -> Ruling | None:
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
                self._stage(found, found.sides, range(number, number + 1), STARE)
            return None
        if settings.gate == "off":
            self._once(found, hindered)
            return None
        found.against = f"the time stored in {self._path.parent.name}"
        return self._against_stored(found, entry, hindered)

    def _once(self, found: Judged, hindered: str | None) -> None:
        if hindered is None:
            self._stage(found, found.sides, range(1), GLANCE)

    def _side_by_side(self, found: Judged, against: str, hindered: str | None) -> Ruling:
        (candidate,) = found.sides
        kernel = candidate.kernel
        try:
            other = self._other_side(kernel, found.subject, against)
        except NotThere as missing:
            self._once(found, hindered)
            return not_comparable(str(missing))
        found.against = other.name if names_kernel(against) else f"itself at {against}"
        found.sides.append(other)
        if self._compiles(kernel):
            compiled(other, self._processes)
        if hindered is not None:
            return not_comparable(f"not timed: {hindered}")
        tolerance = self._tolerance()
        seed = self._settings.seed
        self._stage(found, found.sides, range(rules.PROCESSES), GLANCE)
        ruling = rules.ab_first(candidate.series(), other.series(), tolerance, seed=seed)
        if ruling.decision is Decision.OK:
            return ruling
        numbers = range(rules.PROCESSES)
        self._stage(found, found.sides, numbers, STARE, fresh=True)
        return rules.ab_second(candidate.series(), other.series(), tolerance, seed=seed)

    def _other_side(self, kernel: Kernel, subject: Subject | None, against: str) -> Side:
        if names_kernel(against):
            other = registry.kernel(against)
            if other.id == kernel.id:
                raise NotThere("it would be compared with itself")
            if other.op != kernel.op:
                raise NotThere(f"{against} is of another op")
            assert subject is not None
            if reason := obstacle(other, self._target.kind, subject.case.dtype):
                raise NotThere(reason)
            return Side(other.id, other, Place.here())
        if self._revision is None:
            raise SparsityError(f"--sparsity-against {against}: no revision was given")
        return Side(f"{kernel.id}@{against}", kernel, self._revision.place(kernel))

    def _against_stored(
        self, found: Judged, entry: Measured | None, hindered: str | None
    ) -> Ruling:
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
        while True:
            (now,) = self._now(found)
            ruling = rules.stored(
                min(entry.bests),
                entry.spread,
                now.bests,
                tolerance,
                now.processes[-1],
                found.sides[0].noise,
            )
            decided = ruling.decision is not Decision.INCONCLUSIVE
            if decided or len(now.processes) >= rules.PROCESSES:
                if entry.source == now.source:
                    ruling = replace(ruling, reason=f"{ruling.reason}, of the same source")
                return ruling
            number = len(now.processes)
            numbers = range(number, number + 1)
            self._stage(found, found.sides, numbers, STARE, fresh=True)

    def _now(self, found: Judged) -> list[Measured]:
        return found.measured(self._target, versions=self._versions)

    def _with_companions(self, found: Judged) -> Ruling | None:
        """The ruling, and a regression if a figure that needs no statistics got worse."""
        if found.ruling is None or found.fault:
            return found.ruling
        before: Mapping[str, int] = {}
        same_compiler = True
        if self._settings.against is not None:
            if len(found.sides) == 2 and not names_kernel(self._settings.against):
                before = found.sides[1].companions
        elif self._path is not None and (entry := baseline.read(self._path).get(found.kernel)):
            before = entry.companions
            now = baseline.minor(self._versions, "triton")
            same_compiler = baseline.minor(entry.versions, "triton") == now
            (current,) = self._now(found)
            if entry.case != current.case:
                before = {name: n for name, n in before.items() if " sm_" in name}
        found.differences = differences(before, found.sides[0].companions, same_compiler)
        worse = [str(difference) for difference in found.differences if difference.worse]
        if worse:
            return replace(
                found.ruling,
                decision=Decision.REGRESSED,
                reason=f"it takes more: {'; '.join(worse)}",
            )
        compared = set(before) & set(found.sides[0].companions)
        untimed = not any(rounds.count for rounds, _ in found.sides[0].stages)
        if compared and untimed and found.ruling.decision is Decision.NOT_COMPARABLE:
            reason = f"{len(compared)} figures of its code are no worse; {found.ruling.reason}"
            return replace(found.ruling, decision=Decision.OK, reason=reason)
        return found.ruling

    def _stage(
        self,
        found: Judged,
        sides: Sequence[Side],
        numbers: range,
        look: Look,
        fresh: bool = False,
    ) -> None:
        assert found.subject is not None
        stage(
            sides,
            found.subject,
            self._processes,
            self._target,
            numbers=numbers,
            look=look,
            seed=self._settings.seed + len(sides[0].stages),
            fresh=fresh,
        )

    def _tolerance(self) -> float:
        default = rules.TOLERANCE_CUDA if self._target.kind == "cuda" else rules.TOLERANCE_CPU
        return self._settings.tolerance or default
