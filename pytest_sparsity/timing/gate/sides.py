"""The sides of a comparison, and one stage of it: rounds of each, in processes, results checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from statistics import median
from typing import Any

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.targets import HardwareTarget
from pytest_sparsity.timing.gate import rules
from pytest_sparsity.timing.gate.processes import (
    THREADS,
    ContenderError,
    Place,
    Process,
    Processes,
    Remote,
)
from pytest_sparsity.timing.gate.result import Measured, best
from pytest_sparsity.timing.gate.subject import Subject, source_of
from pytest_sparsity.timing.gate.timing import Rounds, measure


@dataclass(frozen=True)
class Look:
    """How long one looks: rounds are spread over seconds, so that a disturbance passes.

    Attributes:
        rounds: samples of each side and process.
        pause: seconds between rounds.
    """

    rounds: int
    pause: float


#: A second for whoever is fine, and four where it matters.
GLANCE = Look(rules.FIRST_ROUNDS, 0.02)
STARE = Look(rules.SECOND_ROUNDS, 0.05)


@dataclass
class Side:
    """A kernel as it is somewhere, and what was measured of it.

    Attributes:
        name: tells it from the other side.
        kernel: as registered here.
        place: where its process imports from.
        stages: rounds, by process, of each stage; they grow while it is measured.
        companions: figures that are the same in every run.
    """

    name: str
    kernel: Kernel
    place: Place
    stages: list[tuple[Rounds, list[str]]] = field(default_factory=list)
    companions: dict[str, int] = field(default_factory=dict)

    def series(self, stage: int = -1) -> list[float]:
        """The rounds of a stage: of several processes, each round's fastest.

        A process may be in a slow mode for all its life (where its memory lies, for example); the
        fastest of several is not.
        """
        rounds, keys = self.stages[stage]
        whole = rounds.count
        return [min(rounds.seconds[key][i] for key in keys) for i in range(whole)]

    @property
    def noise(self) -> float:
        """Median over best of the last stage: 1 on a machine that does nothing else."""
        series = self.series()
        return median(series) / best(series)

    def measured(self, subject: Subject, target: HardwareTarget, **about: Any) -> Measured:
        """All of it, as plain data."""
        series = [
            (rounds.seconds[key], rounds.iterations.get(key, 1))
            for rounds, keys in self.stages
            for key in keys
            if rounds.seconds.get(key)
        ]
        return Measured(
            name=self.name,
            seconds=tuple(second for seconds, _ in series for second in seconds),
            iterations=max((iterations for _, iterations in series), default=1),
            processes=tuple(len(seconds) for seconds, _ in series),
            bytes=subject.weight_bytes,
            peak_bytes=self.companions.get("peak_bytes"),
            target=target.fingerprint,
            device=target.name,
            threads=THREADS,
            case=str(subject.case),
            source=source_of(self.kernel, self.place.file(self.kernel.file)),
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            companions=self.companions,
            **about,
        )


class Faulty(Exception):
    """A side is wrong or broken; the message says in what way.

    Attributes:
        side: which one.
        details: a traceback, or what its process printed last; may be empty.
    """

    def __init__(self, side: Side, message: str, details: str = "") -> None:
        super().__init__(message)
        self.side = side
        self.details = details


class Doubtful(Exception):
    """The times cannot be believed; the message says why."""


def stage(
    sides: Sequence[Side],
    subject: Subject,
    processes: Processes,
    target: HardwareTarget,
    *,
    numbers: range,
    look: Look,
    seed: int,
    fresh: bool,
) -> None:
    """Measure one stage: rounds of every side in one or several processes, interleaved.

    Sides of one place share their processes and the operands there.  Results are compared with the
    definition before and after; rounds are kept in ``Side.stages`` even if something goes wrong.

    Args:
        sides: to be measured side by side.
        subject: what they compute.
        processes: of this session.
        target: where the operands are.
        numbers: of the processes per place.
        look: how many rounds, and how far apart.
        seed: of the order.
        fresh: whether the processes are started anew for it.

    Raises:
        Faulty: a side is wrong, raised an exception, crashed or hung.
        Doubtful: the clock went backwards.
    """
    done, copies = Rounds(), subject.copies(target)
    for side in sides:
        keys = [f"{side.name}#{number}" for number in numbers]
        side.stages.append((done, keys))
    known = {
        (side.place, number): (processes.fresh if fresh else processes.get)(side.place, number)
        for number in numbers
        for side in {id(s.place): s for s in sides}.values()
    }
    loads: dict[Process, dict[str, Side]] = {process: {} for process in known.values()}
    for number in numbers:
        for side in sides:
            loads[known[side.place, number]][f"{side.name}#{number}"] = side
    _prepare(loads, subject, target.device, copies)
    contenders = {key: Remote(process, key) for process, keys in loads.items() for key in keys}
    owners = {key: side for keys in loads.values() for key, side in keys.items()}
    right = None  # most have the same bits as the one before
    for key, contender in contenders.items():
        right = _checked(contender, owners[key], subject, right, "before")
    measure(contenders, look.rounds, seed, look.pause, into=done)
    if done.broken:
        raise Faulty(owners[done.culprit], done.broken, done.details)
    if done.doubt:
        raise Doubtful(done.doubt)
    for key, contender in contenders.items():
        _checked(contender, owners[key], subject, right, "after")
    for side in sides:
        first = contenders[side.stages[-1][1][0]]
        with _blaming(side):
            found: Mapping[str, int] = first.process.ask("companions", first.name)
        side.companions.update(found, weight_bytes=subject.weight_bytes)


def compiled(side: Side, processes: Processes) -> None:
    """Add the figures of compiled code to a side's companions.

    Raises:
        Faulty: it does not compile, or not well.
    """
    process = processes.get(side.place, -1)  # which gets a driver of its own
    file = side.place.file(side.kernel.file)
    with _blaming(side):
        found: Mapping[str, int] | None
        found = process.ask("compiled", side.kernel.id, side.kernel.module, file)
    side.companions.update(found or {})


def _prepare(
    loads: Mapping[Process, Mapping[str, Side]], subject: Subject, device: str, copies: int
) -> None:
    """Give each process the operands and its kernels, all processes at a time."""
    operands = subject.operands

    def prepare(process: Process, keys: Mapping[str, Side]) -> None:
        with _blaming(next(iter(keys.values()))):
            process.ask("operands", operands, device, copies)
        for key, side in keys.items():
            with _blaming(side):
                _load(process, side, key)

    with ThreadPoolExecutor(len(loads)) as pool:
        waiting = [pool.submit(prepare, process, keys) for process, keys in loads.items()]
        try:
            for each in waiting:
                each.result()
        except BaseException:  # Ctrl-C, for one: nobody waits for the others' answers
            for process in loads:
                process.close()
            raise


def _load(process: Process, side: Side, key: str) -> None:
    kernel, wanted = side.kernel, side.place.file(side.kernel.file)
    file = process.ask("contender", key, kernel.id, kernel.module, wanted)
    if os.path.realpath(file) != wanted:
        raise Faulty(side, f"its process imported {file} in place of {wanted}")


def _checked(contender: Remote, side: Side, subject: Subject, right: Any, when: str) -> Any:
    with _blaming(side):
        output = contender.process.ask("output", contender.name)
    if fault := subject.fault(output, right):
        raise Faulty(side, f"is wrong {when} it was timed: {fault}")
    return output


class _blaming:
    """Turns what a contender raised into a :class:`Faulty` side."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ContenderError):
            raise Faulty(self._side, str(error), error.details) from error
