"""Decisions of the speed gate on kernels whose slow-down is known, beside a noisy neighbour."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from neighbour import noisy
from rivals import alarms

from pytest_sparsity.core.provenance import versions
from pytest_sparsity.kernels import registry
from pytest_sparsity.settings.settings import Settings, default_settings
from pytest_sparsity.speed.gate import baseline, rules
from pytest_sparsity.speed.gate.against import Revision
from pytest_sparsity.speed.gate.contenders import Contender
from pytest_sparsity.speed.gate.kernel_timer import KernelTimer, TimedKernel
from pytest_sparsity.speed.gate.processes import Processes
from pytest_sparsity.speed.gate.rules import block_minimum_ratio
from pytest_sparsity.targets import resolve_target

_MODULE = "slowed"
IDENTICAL = "plus_0"
#: A user's run gates many kernels, with processes that are started once, and a run is stored to be
#: compared with often.
_REPEATS, _RUNS_PER_STORE = 3, 4
#: Decisions, by mode and kernel: enough of each to tell the share that is asked for.
WANTED: Mapping[str, Mapping[str, int]] = {
    "ab": {"plus_0": 100, "plus_5": 20, "plus_10": 20, "plus_20": 30},
    "stored": {"plus_0": 100, "plus_20": 30},
}
#: Kernels are in one run if the shares that are done of them differ by no more.
_TOGETHER = 0.05
Row = Mapping[str, Any]


class Proof:
    """The gate, a repository in which kernels became slower, and where decisions are written.

    Args:
        folder: for the repository.
    """

    def __init__(self, folder: Path) -> None:
        self._repository = _repository(folder / "repository")
        self._stored = folder / "stored"
        self._settings = replace(default_settings(), gate="fail")
        self._target = resolve_target("cpu")
        self._versions = versions()
        sys.path.insert(0, str(self._repository))
        import_module(_MODULE)

    def ab(self, names: list[str]) -> Iterator[tuple[str, Row]]:
        """One run that gates the working copy against the last commit, side by side."""
        processes, revision = Processes(), Revision("HEAD")
        try:
            gate = self._gate(processes, revision, against="HEAD")
            for name in names:
                started = time.monotonic()
                timed = gate.judge(registry.kernel(f"sparse_linear/{name}"))
                first = (_one_process(timed.contenders[0]), _one_process(timed.contenders[1]))
                yield name, self._row(timed, first, time.monotonic() - started)
        finally:
            processes.close()
            revision.close()

    def stored(self, names: list[str]) -> Iterator[tuple[str, Row]]:
        """A run that stores the kernel as committed, and others that gate the copy with it."""
        shutil.rmtree(self._stored, ignore_errors=True)
        before = registry.kernel(f"sparse_linear/{IDENTICAL}")
        with _processes() as processes:
            gate = self._gate(processes, None, gate="off", update=True, baseline=self._stored)
            (entry,) = gate.judge(before).measured(self._target, versions=self._versions)
        ids = [f"sparse_linear/{name}" for name in names]
        baseline.add(self._stored / baseline.FILE, {id: replace(entry, name=id) for id in ids})
        for _ in range(_RUNS_PER_STORE):
            with _processes() as processes:
                gate = self._gate(processes, None, baseline=self._stored)
                for name, id in zip(names, ids, strict=True):
                    started = time.monotonic()
                    timed = gate.judge(registry.kernel(id))
                    # A run of pytest-benchmark is one process, and so is what it stores.
                    first = (
                        _one_process(timed.contenders[0]),
                        list(entry.seconds[: entry.processes[0]]),
                    )
                    yield name, self._row(timed, first, time.monotonic() - started)

    def _gate(
        self, processes: Processes, revision: Revision | None, **settings: Any
    ) -> KernelTimer:
        asked: Settings = replace(self._settings, **settings)
        return KernelTimer(asked, self._target, processes, self._versions, revision)

    def _row(
        self, timed: TimedKernel, first: tuple[list[float], list[float]], seconds: float
    ) -> Row:
        comparison = timed.comparison
        if (
            timed.fault
            or comparison is None
            or comparison.ratio is None
            or comparison.tolerance is None
        ):
            raise RuntimeError(f"{timed.kernel}: {timed.fault or timed.comparison}")
        if timed.differences:  # then it is not by its times that the gate would catch it
            raise RuntimeError(f"{timed.kernel}: {', '.join(map(str, timed.differences))}")
        candidate, other = timed.contenders[0], timed.contenders[-1]
        stages = (
            [
                block_minimum_ratio(candidate.series(i), other.series(i), seed=i)
                for i in range(len(candidate.stages))
            ]
            if other is not candidate
            else [comparison.ratio]
        )
        return {
            "decision": comparison.decision.value,
            "stages": [[stage.estimate, stage.low, stage.high] for stage in stages],
            "tolerance": comparison.tolerance,
            "spread": comparison.spread,
            "noise": candidate.noise,
            "seconds": seconds,
            "rivals": alarms(*first, _tolerance(timed)),
        }


def prove(out: Path, wanted: Mapping[str, Mapping[str, int]], say: Callable[[str], None]) -> None:
    """Decide until there are so many decisions of each kind; go on where ``out`` ends.

    Args:
        out: JSON lines, one per decision, written as they come.
        wanted: how many, by mode and kernel.
        say: told of every decision.
    """
    done = rows(out)
    seed = len(done)
    shuffled = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="sparsity-proof-") as folder, noisy(seed):
        proof = Proof(Path(folder))
        while (due := _due(done, wanted)) is not None:
            mode, names = due
            names += [IDENTICAL] * (_REPEATS - 1) * (IDENTICAL in names)
            shuffled.shuffle(names)
            decide = proof.ab if mode == "ab" else proof.stored
            for name, found in decide(names):
                row = {"mode": mode, "kernel": name, **found}
                done.append(row)
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                ratio = found["stages"][-1][0]
                say(f"{mode} {name}: {row['decision']} {ratio:.3f}, {found['seconds']:.1f} s")


def _due(done: list[Row], wanted: Mapping[str, Mapping[str, int]]) -> tuple[str, list[str]] | None:
    """The mode and the kernels that are behind, so that all meet all weathers; None when done."""
    counts = Counter((row["mode"], row["kernel"]) for row in done)
    shares = {
        (mode, name): counts[mode, name] / number
        for mode, numbers in wanted.items()
        for name, number in numbers.items()
    }
    (mode, _), least = min(shares.items(), key=lambda share: share[1])
    if least >= 1:
        return None
    return mode, [name for name in wanted[mode] if shares[mode, name] <= least + _TOGETHER]


def rows(out: Path) -> list[Row]:
    """Decisions that are in the file."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in out.read_text().splitlines()]
    return []


def _one_process(contender: Contender) -> list[float]:
    """The first process's samples of the first look."""
    rounds, keys = contender.stages[0]
    return rounds.seconds[keys[0]]


def _tolerance(timed: TimedKernel) -> float:
    """What the others are given; the gate's own may be wider, if stored processes differ."""
    return rules.TOLERANCE_STORED if len(timed.contenders) == 1 else rules.TOLERANCE_CPU


@contextmanager
def _processes() -> Iterator[Processes]:
    processes = Processes()
    try:
        yield processes
    finally:
        processes.close()


def _repository(folder: Path) -> Path:
    """A git repository in which nothing is slow, with a working copy in which it is."""
    folder.mkdir(parents=True)
    file = folder / f"{_MODULE}.py"
    source = Path(__file__).with_name(file.name).read_text()
    file.write_text(source)
    git = ["git", "-C", str(folder), "-c", "user.name=proof", "-c", "user.email=proof@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "as it was"]):
        subprocess.run([*git, *words], check=True)
    slowed = source.replace("SLOWED = False", "SLOWED = True")
    assert slowed != source
    file.write_text(slowed)
    return folder
