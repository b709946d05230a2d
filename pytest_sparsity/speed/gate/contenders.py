"""Contenders of a comparison, and one stage of it: timed rounds in processes, results checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from statistics import median
from typing import Any

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.speed.gate import rules
from pytest_sparsity.speed.gate.processes import (
    THREADS,
    Place,
    Process,
    Processes,
    Remote,
    WorkerError,
)
from pytest_sparsity.speed.gate.result import Measured, best
from pytest_sparsity.speed.gate.timing import Rounds, measure
from pytest_sparsity.speed.gate.workload import Workload, source_of
from pytest_sparsity.targets import HardwareTarget


@dataclass(frozen=True)
class SamplingPlan:
    """How many samples are taken, and how far apart: a short disturbance hits few of them.

    Attributes:
        rounds: samples of each contender in each process.
        pause: seconds between rounds.
    """

    rounds: int
    pause: float


#: SCREEN takes about 1 s and is enough for most kernels; CONFIRM takes about 4 s, and only where
#: SCREEN suspects a change or where times are stored.
SCREEN = SamplingPlan(rules.FIRST_ROUNDS, 0.02)
CONFIRM = SamplingPlan(rules.SECOND_ROUNDS, 0.05)


@dataclass
class Contender:
    """A kernel as it stands in one version of the code, and what was measured of it.

    Attributes:
        name: tells it from the other contender.
        kernel: as registered here.
        place: where its process imports from.
        stages: rounds, by process, of each stage; they grow while it is measured.
        static_metrics: figures that are the same in every run (``static_metrics.py``).
    """

    name: str
    kernel: Kernel
    place: Place
    stages: list[tuple[Rounds, list[str]]] = field(default_factory=list)
    static_metrics: dict[str, int] = field(default_factory=dict)

    def series(self, stage: int = -1) -> list[float]:
        """Seconds of each round of a stage: the fastest among its processes.

        A process may be slow for as long as it runs (by where its memory lies, for example); the
        fastest of several is not.
        """
        rounds, keys = self.stages[stage]
        whole = rounds.count
        return [min(rounds.seconds[key][i] for key in keys) for i in range(whole)]

    @property
    def noise(self) -> float:
        """Median time over best time in the last stage; 1 on a machine that does nothing else."""
        series = self.series()
        return median(series) / best(series)

    def measured(self, workload: Workload, target: HardwareTarget, **about: Any) -> Measured:
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
            bytes=workload.weight_bytes,
            peak_bytes=self.static_metrics.get("peak_bytes"),
            target=target.fingerprint,
            device=target.name,
            threads=THREADS,
            case=str(workload.case),
            source=source_of(self.kernel, self.place.file(self.kernel.file)),
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            static_metrics=self.static_metrics,
            **about,
        )


class ContenderFault(Exception):
    """A contender computes something wrong, crashed or hung; the message says what happened.

    Attributes:
        contender: which one.
        details: a traceback, or what its process printed last; may be empty.
    """

    def __init__(self, contender: Contender, message: str, details: str = "") -> None:
        super().__init__(message)
        self.contender = contender
        self.details = details


class UnreliableTiming(Exception):
    """The times cannot be trusted; the message says why."""


def stage(
    contenders: Sequence[Contender],
    workload: Workload,
    processes: Processes,
    target: HardwareTarget,
    *,
    numbers: range,
    plan: SamplingPlan,
    seed: int,
    fresh: bool,
) -> None:
    """Measure one stage: rounds of every contender in one or several processes, interleaved.

    Contenders that import from one place share their processes and the operands there.  Results are
    compared with the definition before and after; rounds are kept in ``Contender.stages`` even if
    something goes wrong.

    Args:
        contenders: to be measured side by side.
        workload: what they compute.
        processes: of this session.
        target: where the operands are.
        numbers: of the processes per place.
        plan: how many rounds, and how far apart.
        seed: of the order.
        fresh: whether the processes are started anew for it.

    Raises:
        ContenderFault: one is wrong, raised an exception, crashed or hung.
        UnreliableTiming: the clock went backwards.
    """
    done, copies = Rounds(), workload.copies(target)
    for contender in contenders:
        keys = [f"{contender.name}#{number}" for number in numbers]
        contender.stages.append((done, keys))
    known = {
        (place, number): (processes.fresh if fresh else processes.get)(place, number)
        for number in numbers
        for place in dict.fromkeys(contender.place for contender in contenders)
    }
    loads: dict[Process, dict[str, Contender]] = {process: {} for process in known.values()}
    for number in numbers:
        for contender in contenders:
            loads[known[contender.place, number]][f"{contender.name}#{number}"] = contender
    _prepare(loads, workload, target.device, copies)
    remotes = {key: Remote(process, key) for process, keys in loads.items() for key in keys}
    owners = {key: contender for keys in loads.values() for key, contender in keys.items()}
    right = None  # most have the same bits as the one before
    for key, remote in remotes.items():
        right = _checked(remote, owners[key], workload, right, "before")
    measure(remotes, plan.rounds, seed, plan.pause, into=done)
    if done.broken:
        raise ContenderFault(owners[done.culprit], done.broken, done.details)
    if done.doubt:
        raise UnreliableTiming(done.doubt)
    for key, remote in remotes.items():
        _checked(remote, owners[key], workload, right, "after")
    for contender in contenders:
        first = remotes[contender.stages[-1][1][0]]
        with _blaming(contender):
            found: Mapping[str, int] = first.process.ask("static_metrics", first.name)
        contender.static_metrics.update(found, weight_bytes=workload.weight_bytes)


def compiled(contender: Contender, processes: Processes) -> None:
    """Add the figures of compiled code to a contender's static metrics.

    Raises:
        ContenderFault: it does not compile, or not well.
    """
    process = processes.get(contender.place, -1)  # which gets a driver of its own
    file = contender.place.file(contender.kernel.file)
    with _blaming(contender):
        found: Mapping[str, int] | None
        found = process.ask("compiled", contender.kernel.id, contender.kernel.module, file)
    contender.static_metrics.update(found or {})


def counted(contender: Contender, processes: Processes) -> None:
    """Add the instructions of a call to the static metrics of a contender that was timed.

    Raises:
        ContenderFault: they cannot be counted.
    """
    if not contender.stages:
        return
    key = contender.stages[-1][1][0]
    process = processes.get(contender.place, int(key.rpartition("#")[2]))
    with _blaming(contender):
        found: Mapping[str, int] = process.ask("instructions", key)
    contender.static_metrics.update(found)


def _prepare(
    loads: Mapping[Process, Mapping[str, Contender]], workload: Workload, device: str, copies: int
) -> None:
    """Give each process the operands and its kernels, all processes at a time."""
    operands = workload.operands

    def prepare(process: Process, keys: Mapping[str, Contender]) -> None:
        with _blaming(next(iter(keys.values()))):
            process.ask("operands", operands, device, copies)
        for key, contender in keys.items():
            with _blaming(contender):
                _load(process, contender, key)

    with ThreadPoolExecutor(len(loads)) as pool:
        waiting = [pool.submit(prepare, process, keys) for process, keys in loads.items()]
        try:
            for each in waiting:
                each.result()
        except BaseException:  # Ctrl-C, for one: nobody waits for the others' answers
            for process in loads:
                process.close()
            raise


def _load(process: Process, contender: Contender, key: str) -> None:
    kernel, wanted = contender.kernel, contender.place.file(contender.kernel.file)
    file = process.ask("contender", key, kernel.id, kernel.module, wanted)
    if os.path.realpath(file) != wanted:
        raise ContenderFault(contender, f"its process imported {file} in place of {wanted}")


def _checked(
    remote: Remote, contender: Contender, workload: Workload, right: Any, when: str
) -> Any:
    with _blaming(contender):
        output = remote.process.ask("output", remote.name)
    if fault := workload.fault(output, right):
        raise ContenderFault(contender, f"is wrong {when} it was timed: {fault}")
    return output


class _blaming:
    """Turns a worker's error into the :class:`ContenderFault` of a contender."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, WorkerError):
            raise ContenderFault(self._contender, str(error), error.details) from error
