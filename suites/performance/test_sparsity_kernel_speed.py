"""How much faster than the best dense kernel the sparse ones are, with weights in no cache.

Alone, in about three minutes, best on a machine that does nothing else:

    pytest --sparsity-sweep --sparsity-suite=performance -k kernel_speed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity.fixtures import HardwareTarget, Settings, SweepSession
from pytest_sparsity.results import Interval, Outcome
from pytest_sparsity.speed import (
    Oracle,
    Problem,
    Spread,
    dense_ways,
    describe_noise,
    int4_problem,
    linear_problem,
    p10_ratio,
    predicted_problem,
    runnable,
    swiglu_problem,
    time_cold,
)
from pytest_sparsity.testing import Kernel, Precision

Run = Callable[[], Tensor]
Seconds = dict[str, list[float]]
Report = Callable[[str, str, Mapping[str, Any]], None]

LEVELS = (0.5, 0.75, 0.9)
ROUNDS = (40, 60)  # the second number is of fresh rounds, when the first ones do not decide
TORCH = "torch"  # how the dense ways that torch itself offers begin
HOPELESS = 3.0  # times the slowest dense one: a kernel that is slower is timed no further
TINY = (64, 128)  # warms up the code, hardly touches the caches
SMALL = (512, 1024)  # channels and outputs in the smoke profile, where no limits apply

pytestmark = pytest.mark.usefixtures("machine_to_oneself")


@dataclass(frozen=True)
class Case:
    """A problem and what is asked of the fastest sparse kernel.

    Attributes:
        make: builds the problem.
        k: input channels.
        n: outputs, or neurons.
        best: level to the least speed-up against the best dense kernel; empty for no limit.
        torch: level to the least speed-up against torch.
        ideal: least fraction of the ideal speed-up against its own time at level 0.
    """

    make: Callable[..., Problem]
    k: int
    n: int
    best: Mapping[float, float] = field(default_factory=dict)
    torch: Mapping[float, float] = field(default_factory=dict)
    ideal: float | None = None


def _least(*limits: float) -> dict[float, float]:
    return dict(zip(LEVELS, limits, strict=True))


CASES = {
    "linear": Case(linear_problem, 4096, 14336, _least(1.7, 3.6, 8), ideal=0.95),
    "linear-small": Case(linear_problem, 576, 1536, _least(1.3, 1.9, 2.5)),
    "int4": Case(int4_problem, 4096, 14336, _least(1.7, 3.4, 7.5)),
    # A gate that is read whole leaves no more than 2 and 2.5 times at 75 and 90 %.
    "swiglu": Case(swiglu_problem, 4096, 14336, {0.5: 1.4}, {0.5: 2}),
    "swiglu-predicted": Case(
        predicted_problem, 4096, 14336, _least(1.4, 2.5, 6), _least(2, 3.5, 8)
    ),
    "swiglu-small": Case(swiglu_problem, 576, 1536),
}


@dataclass(frozen=True)
class Contender:
    """Something that is timed: a dense way (``kernel`` is None), or a kernel at a level."""

    name: str
    run: Run
    level: float
    precision: Precision
    kernel: Kernel | None = None


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_kernels_beat_the_best_dense(
    name: str,
    hardware_target: HardwareTarget,
    sparsity_settings: Settings,
    sparsity_session: SweepSession,
    report_kernels: Report,
) -> None:
    """Every kernel of the op, at three levels, against dense ones that are as good as any.

    The best dense one is the fastest of torch, a plain row-times-vector loop, and the kernels
    themselves at level 0.  Limits are for the fastest kernel at each level.
    """
    if hardware_target.kind != "cpu":
        pytest.skip(f"times kernels of the CPU, and the target is {hardware_target.device}")
    case, smoke, seed = CASES[name], sparsity_settings.profile == "smoke", sparsity_settings.seed
    shape = SMALL if smoke else (case.k, case.n)
    problem, tiny = (
        case.make(*size, LEVELS, dense_ways("cpu"), "cpu", seed) for size in (shape, TINY)
    )
    contenders = _contenders(problem)
    rehearsals = {contender.name: contender.run for contender in _contenders(tiny)}
    if all(contender.kernel is None for contender in contenders):
        pytest.skip(f"no kernel of {problem.op} runs here")
    oracles = {level: Oracle(problem, level) for level in (0.0, *LEVELS)}
    _check(contenders, oracles)
    contenders, left_out = _without_hopeless(contenders)
    title = f"{problem.op} {shape[0]}x{shape[1]}"
    for rounds in ROUNDS[:1] if smoke else ROUNDS:
        runs = {contender.name: contender.run for contender in contenders}
        total = rounds * len(runs)
        with sparsity_session.progress(f"time {title}", total, "run") as task:
            seconds = time_cold(runs, rehearsals, rounds, seed + rounds, task.advance)
        findings = [_finding(case, problem, contenders, seconds, level) for level in LEVELS]
        outcome = _worst([found.outcome for found in findings])
        if outcome is not Outcome.INCONCLUSIVE:
            break
    _check(contenders, oracles)

    lines = [
        f"{title}, one thread, cold weights, {rounds} rounds, {describe_noise(seconds)}",
        _dense_line(problem, contenders, seconds),
        *(found.line for found in findings),
        *([f"too slow to be timed: {', '.join(left_out)}"] if left_out else []),
    ]
    numbers = {key: value for found in findings for key, value in found.numbers.items()}
    text = "\n    ".join(lines)
    report_kernels(title, text, {**numbers, "rounds": rounds, "seconds": seconds})
    if smoke:
        return
    if outcome is Outcome.INCONCLUSIVE:
        pytest.skip(f"inconclusive: {text}")
    assert outcome is Outcome.PASS, text


def _contenders(problem: Problem) -> list[Contender]:
    """Dense ways, then every kernel of the op that runs here, at level 0 and at the levels."""
    x = problem.x
    plain = Precision(x.dtype, torch.float32, x.dtype)
    found = [Contender(name, run, 0.0, plain) for name, run in problem.dense.items()]
    for kernel in runnable(problem.op, x.device.type, str(x.dtype).removeprefix("torch.")):
        for level in (0.0, *LEVELS):
            run = problem.call(kernel, level, checked=False)
            name = f"{kernel.name} at {level:.0%}"
            found.append(Contender(name, run, level, kernel.precision(x.dtype), kernel))
    return found


def _check(contenders: Sequence[Contender], oracles: Mapping[float, Oracle]) -> None:
    for contender in contenders:
        used = oracles[contender.level].tolerance_used(contender.run(), contender.precision)
        assert used <= 1, f"{contender.name} is wrong: its error is {used:.2g} times the bound"


def _without_hopeless(contenders: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    took = {contender.name: _once(contender.run) for contender in contenders}
    limit = HOPELESS * max(took[c.name] for c in contenders if c.kernel is None)
    kept = [c for c in contenders if c.kernel is None or took[c.name] <= limit]
    slow = [f"{c.name} ({took[c.name] * 1e3:.0f} ms)" for c in contenders if c not in kept]
    return kept, slow


def _once(run: Run) -> float:
    run()
    started = perf_counter()
    run()
    return perf_counter() - started


@dataclass(frozen=True)
class Finding:
    """What the fastest kernel reached at one level."""

    line: str
    outcome: Outcome
    numbers: Mapping[str, Any]


def _finding(
    case: Case, problem: Problem, contenders: Sequence[Contender], seconds: Seconds, level: float
) -> Finding:
    p10 = {name: Spread.of(times).p10 for name, times in seconds.items()}
    dense = [contender.name for contender in contenders if not contender.level]
    best = min(dense, key=p10.__getitem__)
    theirs = min((n for n in problem.dense if n.startswith(TORCH)), key=p10.__getitem__)
    ideal = problem.ideal[level]
    sparse = [contender for contender in contenders if contender.level == level]
    if not sparse:
        return Finding(f"{level:.0%}: every kernel is too slow", Outcome.FAIL, {})
    fastest = min(sparse, key=lambda contender: p10[contender.name])
    numbers: dict[str, Any] = {}
    for contender in sparse:
        assert contender.kernel is not None
        times = seconds[contender.name]
        own = seconds.get(f"{contender.kernel.name} at 0%", seconds[best])
        numbers[contender.name] = {
            "best_dense": best,
            "against_best": p10_ratio(seconds[best], times, seed=0),
            "against_torch": p10_ratio(seconds[theirs], times, seed=0),
            "of_ideal": _over(p10_ratio(own, times, seed=0), ideal),
            "gigabytes_per_second": problem.bytes_needed(level) / p10[contender.name] / 1e9,
        }
    found = numbers[fastest.name]
    limits = {
        "against_best": case.best.get(level),
        "against_torch": case.torch.get(level),
        "of_ideal": case.ideal,
    }
    verdicts = {
        key: Outcome.at_least(limit, found[key])
        for key, limit in limits.items()
        if limit is not None
    }

    def said(key: str) -> str:
        asked = f" (asked {limits[key]}: {verdicts[key].value})" if key in verdicts else ""
        return f"{found[key]:.2f}{asked}"

    line = (
        f"{fastest.name} {_microseconds(seconds[fastest.name])}, "
        f"{found['gigabytes_per_second']:.0f} GB/s: {said('against_best')} times {best}, "
        f"{said('against_torch')} times {theirs}, {said('of_ideal')} of its ideal {ideal:.2f}"
    )
    others = [f"{c.name} {numbers[c.name]['against_best']:.2f}" for c in sparse if c is not fastest]
    text = "; ".join([line, *others])
    return Finding(
        text, _worst(list(verdicts.values())), {k: _plain(n) for k, n in numbers.items()}
    )


def _dense_line(problem: Problem, contenders: Sequence[Contender], seconds: Seconds) -> str:
    return "dense: " + ", ".join(
        f"{contender.name} {_microseconds(seconds[contender.name])}"
        for contender in contenders
        if not contender.level
    )


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def _over(interval: Interval, divisor: float) -> Interval:
    return replace(
        interval,
        estimate=interval.estimate / divisor,
        low=interval.low / divisor,
        high=interval.high / divisor,
    )


def _microseconds(times: Sequence[float]) -> str:
    spread = Spread.of(times)
    return f"{spread.p10 * 1e6:.0f} us (median {spread.median * 1e6:.0f})"


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [value.estimate, value.low, value.high] if isinstance(value, Interval) else value
        for key, value in numbers.items()
    }
