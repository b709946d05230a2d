"""The ``paired_benchmark`` fixture: functions of a test's own, timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
import torch

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.plugin.sent import TIMED
from pytest_sparsity.plugin.speed_gate import Timing
from pytest_sparsity.speed.cold import FLUSHED_BYTES
from pytest_sparsity.speed.gate import rules
from pytest_sparsity.speed.gate.processes import THREADS
from pytest_sparsity.speed.gate.result import Measured
from pytest_sparsity.speed.gate.rules import SpeedComparison, block_minimum_ratio
from pytest_sparsity.speed.gate.timing import Rounds, measure
from pytest_sparsity.speed.gate.worker import Calls, Replays, allocations

Function = Callable[[], object]
Check = Callable[[str, Any], object]


@dataclass
class Result:
    """What :class:`PairedBenchmark` measured.

    Attributes:
        measured: raw samples and figures by name.
        baseline: the name that the others are compared with in :meth:`__str__`.
    """

    measured: Mapping[str, Measured]
    baseline: str
    _again: Callable[[int, int], Rounds] = field(repr=False)

    def best(self, name: str) -> float:
        """Seconds of a call when nothing disturbs it: the mean of the fastest three samples."""
        return self._of(name).best

    def ratio(self, name: str, other: str) -> Interval:
        """Time of ``name`` over that of ``other``: median of block minima, with its interval."""
        return block_minimum_ratio(self._of(name).seconds, self._of(other).seconds)

    def share_of_ideal(self, name: str, other: str) -> float | None:
        """Speed-up over ``other`` as a fraction of what bytes alone would give.

        None where nobody said how many bytes either of them moves.
        """
        ours, theirs = self._of(name).bytes, self._of(other).bytes
        return ours / theirs / self.ratio(name, other).estimate if ours and theirs else None

    def compare(
        self, name: str, other: str, tolerance: float = rules.TOLERANCE_CPU
    ) -> SpeedComparison:
        """Compare two of the functions by the rule of the speed gate.

        Unless the rounds so far clearly show that ``name`` is not slower, new rounds are measured,
        and these alone decide.

        Args:
            name: the candidate.
            other: what it must not be slower than.
            tolerance: slow-down that counts, as a fraction.

        Raises:
            SparsityError: there is no such contender, or the tolerance is not a fraction.
        """
        if not 0 < tolerance < 1:
            raise SparsityError(
                f"tolerance={tolerance!r}: use a fraction above 0 and below 1, such as 0.08"
            )
        comparison = rules.ab_first(self._of(name).seconds, self._of(other).seconds, tolerance)
        if comparison.decision is Decision.OK:
            return comparison
        rounds = self._again(rules.SECOND_ROUNDS, 1)
        return rules.ab_second(rounds.seconds[name], rounds.seconds[other], tolerance)

    def assert_not_slower(
        self, name: str, other: str, tolerance: float = rules.TOLERANCE_CPU
    ) -> None:
        """Fail the test if ``name`` is slower than ``other``; skip it if the rounds cannot tell.

        The arguments are those of :meth:`compare`, and so is the SparsityError about them.

        Raises:
            AssertionError: it is slower.
        """
        __tracebackhide__ = True
        comparison = self.compare(name, other, tolerance)
        assert comparison.ratio is not None
        ratio, fresh = comparison.ratio, "fresh " if comparison.stage == 2 else ""
        text = (
            f"{name} takes {ratio.estimate:.3f} times as long as {other} "
            f"[{ratio.low:.3f}, {ratio.high:.3f}], tolerance {tolerance:.1%}, "
            f"{comparison.rounds} {fresh}rounds"
        )
        if comparison.decision is Decision.REGRESSED:
            raise AssertionError(text)
        if comparison.decision is Decision.INCONCLUSIVE:
            pytest.skip(f"inconclusive: {text}")

    def __str__(self) -> str:
        return "\n".join(self._line(measured) for measured in self.measured.values())

    def _line(self, measured: Measured) -> str:
        line = f"{measured.name}: best {measured.best * 1e6:.2f} us, noise {measured.noise:.2f}"
        if measured.bandwidth is not None:
            line += f", {measured.bandwidth / 1e9:.2f} GB/s"
        if measured.peak_bytes is not None:
            line += f", peak {measured.peak_bytes} bytes"
        if measured.name != self.baseline:
            ratio = self.ratio(measured.name, self.baseline)
            line += f", {ratio:.3f} times {self.baseline}"
            if (share := self.share_of_ideal(measured.name, self.baseline)) is not None:
                line += f", {share:.0%} of the ideal speed-up"
        return line

    def _of(self, name: str) -> Measured:
        if name not in self.measured:
            raise SparsityError(
                f"there is no contender {name!r}; there are {', '.join(self.measured)}"
            )
        return self.measured[name]


class PairedBenchmark:
    """Times functions in rounds, each in an order shuffled anew."""

    def __init__(self, timing: Timing, item: pytest.Item) -> None:
        self._timing = timing
        self._item = item
        self._timed = item.stash.setdefault(TIMED, [])

    def __call__(
        self,
        contenders: Mapping[str, Function | Sequence[Function]],
        *,
        baseline: str | None = None,
        work: int | Mapping[str, int] | None = None,
        check: Check | None = None,
        flush: bool = False,
        rounds: int = rules.FIRST_ROUNDS,
    ) -> Result:
        """Time ``contenders`` side by side.

        Args:
            contenders: by name, a function without arguments, or several that do the same on
                operands of their own and are called in turn, so that none finds them in a cache.
                On a CUDA device (--sparsity-target) a function only launches its work.
            baseline: with which the others are compared where the result is printed; the last.
            work: bytes that a call must read and write, of all or by name, for the bandwidth.
            check: called with a contender's name and what it returns, before and after.
            flush: flush the CPU's caches before each call.
            rounds: samples of each.

        Raises:
            SparsityError: nothing is to be timed, a name is unknown, or rounds are too few.
            AssertionError: a contender raised an exception, or the clock went backwards.
        """
        __tracebackhide__ = True
        names = list(contenders)
        if not names or rounds < 2 * rules.FIRST_ROUNDS // 3:
            raise SparsityError(
                f"paired_benchmark: {len(names)} contenders, rounds={rounds}: give at least one "
                f"contender and {2 * rules.FIRST_ROUNDS // 3} rounds"
            )
        if baseline is not None and baseline not in contenders:
            raise SparsityError(f"paired_benchmark: baseline={baseline!r}: use one of {names}")
        functions = {
            name: list(given) if isinstance(given, Sequence) else [given]
            for name, given in contenders.items()
        }
        cuda = self._timing.target.kind == "cuda"
        timed = {name: _contender(calls, cuda, flush) for name, calls in functions.items()}
        stages: list[Rounds] = []
        peaks: dict[str, int | None] = dict.fromkeys(functions)
        report: dict[str, Any] = {"measured": [], "store": False, "registered": []}
        self._timed.append(report)

        def collect(partial: bool = False) -> list[Measured]:
            measured = self._measured(stages, work, peaks, partial)
            report["measured"] = [m.to_json() for m in measured]
            return measured

        def run(rounds: int, stage: int) -> Rounds:
            __tracebackhide__ = True
            done = Rounds()
            stages.append(done)
            try:
                with self._timing.device_to_itself(), _threads(THREADS):
                    _check(functions, check)
                    for contender in timed.values():
                        contender.warm_up()
                    measure(timed, rounds, self._timing.settings.seed + stage, into=done)
                    _believe(done)
                    _check(functions, check)
            except BaseException:
                self._timing.keep(collect(partial=True))
                raise
            collect()
            return done

        run(rounds, 0)
        peaks.update({name: allocations(calls[0], ())[2] for name, calls in functions.items()})
        return Result({m.name: m for m in collect()}, baseline or names[-1], run)

    def _measured(
        self, stages: Sequence[Rounds], work: Any, peaks: Mapping[str, int | None], partial: bool
    ) -> list[Measured]:
        """All rounds of each contender that has any."""
        sizes = work if isinstance(work, Mapping) else dict.fromkeys(peaks, work)
        target = self._timing.target
        series = {
            name: tuple(second for stage in stages for second in stage.seconds.get(name, ()))
            for name in peaks
        }
        return [
            Measured(
                name=name,
                seconds=seconds,
                iterations=max(stage.iterations.get(name, 1) for stage in stages),
                processes=(len(seconds),),
                bytes=sizes.get(name),
                peak_bytes=peaks[name],
                target=target.fingerprint,
                device=target.name,
                threads=THREADS,
                versions=self._timing.versions,
                test=self._item.nodeid,
                when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                partial=partial,
            )
            for name, seconds in series.items()
            if seconds
        ]


def _contender(calls: Sequence[Function], cuda: bool, flush: bool) -> Any:
    if cuda:
        return Replays(calls[0])
    buffer = torch.ones(FLUSHED_BYTES // 4) if flush else None
    return Calls(calls, None if buffer is None else buffer.sum)


def _check(functions: Mapping[str, Sequence[Function]], check: Check | None) -> None:
    if check is not None:
        for name, calls in functions.items():
            check(name, calls[0]())


def _believe(done: Rounds) -> None:
    __tracebackhide__ = True
    if done.broken:
        details = f"\n{done.details}" if done.details else ""
        raise AssertionError(f"{done.culprit}: {done.broken}, {done.count} kept{details}")
    if done.doubt:
        raise AssertionError(f"the times cannot be believed: {done.doubt}")


class _threads:
    """Torch computes with this many threads inside."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._count)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._before)
