"""``python -m pytest_sparsity.speed.validate_roofline``: the roofline against the clock.

Times kernels of the CPU on one thread, with weights in no cache, and compares with what the model
says: a layer in four shapes, an MLP, and a layer of 4 bits.  Two numbers go into the model that
are of this machine: the bandwidth at which one thread reads, and as overhead the time of each
kernel on a layer that is next to nothing.  Both are measured in the same rounds as the kernels,
so that all of them share what the machine gives at that time, and nothing is fitted to the times
that are predicted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from statistics import mean, median

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from pytest_sparsity.checking.records import record
from pytest_sparsity.core.signals import exit_with
from pytest_sparsity.kernels.dispatch import obstacle
from pytest_sparsity.kernels.registry import kernel
from pytest_sparsity.kernels.unchecked import unchecked
from pytest_sparsity.reference.operands import arguments
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs
from pytest_sparsity.speed.cold import describe_noise, time_cold
from pytest_sparsity.speed.problems import (
    Problem,
    int4_problem,
    linear_problem,
    swiglu_problem,
)
from pytest_sparsity.targets import host_target
from pytest_sparsity.targets.bandwidth import reader
from pytest_sparsity.targets.roofline import Machine, plan

Shape = tuple[int, int]
Runs = dict[str, Callable[[], object]]

BACKENDS = ("cpu", "native")
_LINEAR, _SWIGLU, _QUANTIZED = (
    op_of(inputs).name
    for inputs in (SparseLinearInputs, SparseSwigluInputs, SparseQuantizedLinearInputs)
)
SHAPES: Mapping[str, tuple[Shape, ...]] = {
    _LINEAR: ((1024, 4096), (4096, 4096), (2048, 8192), (4096, 14336)),
    _SWIGLU: ((2048, 8192),),
    _QUANTIZED: ((4096, 14336),),
}
PROBLEMS: Mapping[str, Callable[..., Problem]] = {
    _LINEAR: linear_problem,
    _SWIGLU: swiglu_problem,
    _QUANTIZED: int4_problem,
}
LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9)
NEXT_TO_NOTHING = (64, 128)
DTYPE = "bfloat16"  # of all of them
FASTEST = 3  # of the rounds: their mean is compared
READ = 32 << 20  # bytes, of the size of the layers: a longer run is interrupted more often


@dataclass(frozen=True)
class Prediction:
    """One prediction and its measurement, in seconds."""

    kernel: str
    shape: Shape
    level: float
    predicted: float
    measured: float

    @property
    def op(self) -> str:
        """The kernel's op."""
        return self.kernel.partition("/")[0]

    @property
    def error(self) -> float:
        """Predicted over measured, less one: below 0, the kernel is slower than the model says."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Validation:
    """The rows, and what went into the predictions.

    Attributes:
        rows: one per kernel, shape and level, level 0 among them.
        bandwidth: bytes per second that one thread reads.
        overheads: kernel to seconds.
        noise: how disturbed the measurements were.
    """

    rows: tuple[Prediction, ...]
    bandwidth: float
    overheads: dict[str, float]
    noise: str

    @property
    def error(self) -> float:
        """Median of the absolute errors of the times."""
        return median(abs(row.error) for row in self.rows)

    @property
    def speedups(self) -> dict[Prediction, tuple[float, float]]:
        """Rows above level 0 to their speed-ups over the same kernel at 0: predicted, measured."""
        dense = {(row.kernel, row.shape): row for row in self.rows if row.level == 0}
        pairs = {row: dense[row.kernel, row.shape] for row in self.rows if row.level > 0}
        return {
            row: (full.predicted / row.predicted, full.measured / row.measured)
            for row, full in pairs.items()
        }

    @property
    def speedup_error(self) -> float:
        """Median of the absolute errors of the speed-ups."""
        return median(abs(guess / real - 1) for guess, real in self.speedups.values())

    @property
    def by_op(self) -> list[tuple[str, float, float]]:
        """Op, median absolute error of its times, and of its speed-ups."""
        ops = dict.fromkeys(row.op for row in self.rows)
        times = {op: [abs(row.error) for row in self.rows if row.op == op] for op in ops}
        pairs = self.speedups.items()
        ratios = {op: [abs(a / b - 1) for row, (a, b) in pairs if row.op == op] for op in ops}
        return [(op, median(times[op]), median(ratios[op])) for op in ops]

    @property
    def below_floor(self) -> int:
        """Measured times that the model calls impossible."""
        return sum(row.error > 0 for row in self.rows)


def validate(
    shapes: Mapping[str, Sequence[Shape]] = SHAPES,
    levels: Sequence[float] = LEVELS,
    rounds: int = 60,
    seed: int = 0,
) -> Validation:
    """Time every kernel that runs here, and predict each time.

    Args:
        shapes: op to channels and outputs, or neurons.
        levels: fractions inactive, 0 among them.
        rounds: timed runs of each; the mean of the three fastest is compared.
        seed: of the operands and of the order.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = [
            name
            for name in (f"{op}/{backend}" for op in shapes for backend in BACKENDS)
            if obstacle(kernel(name), "cpu", DTYPE) is None
        ]
        tiny = {name: _runs(name, NEXT_TO_NOTHING, (0.0,), seed)[0.0] for name in names}
        cases = {
            (name, shape, level): run
            for name in names
            for shape in shapes[name.partition("/")[0]]
            for level, run in _runs(name, shape, levels, seed).items()
        }
        read = partial(reader(), np.ones(READ // 8, np.int64))
        reread = partial(reader(), np.ones(1 << 10, np.int64))
        runs: Runs = {"read": read, **tiny, **{str(case): run for case, run in cases.items()}}
        rehearsals: Runs = {"read": reread, **tiny, **{str(case): tiny[case[0]] for case in cases}}
        seconds = time_cold(runs, rehearsals, rounds, seed)
    finally:
        torch.set_num_threads(threads)
    took = {name: mean(sorted(times)[:FASTEST]) for name, times in seconds.items()}
    bandwidth = READ / took["read"]
    rows = []
    for case in cases:
        name, shape, level = case
        here = Machine(name, bandwidth, overhead=took[name])
        traffic = record(name.partition("/")[0]).traffic
        assert traffic is not None  # of all three ops
        line = plan(traffic, shape, DTYPE, level, 1, here)
        rows.append(Prediction(name, shape, level, line.seconds, took[str(case)]))
    overheads = {name: took[name] for name in names}
    return Validation(tuple(rows), bandwidth, overheads, describe_noise(seconds))


def _runs(
    name: str, shape: Shape, levels: Sequence[float], seed: int
) -> dict[float, Callable[[], Tensor]]:
    make = PROBLEMS[name.partition("/")[0]]
    problem = make(*shape, tuple(level for level in levels if level), {}, "cpu", seed)
    direct = unchecked(kernel(name))
    return {level: partial(direct, **arguments(problem.at[level])) for level in levels}


def report(validation: Validation) -> str:
    """The table, what it is from, and the median errors."""
    speedups = validation.speedups
    table = [
        (
            row.kernel,
            "x".join(map(str, row.shape)),
            f"{row.level:g}",
            f"{row.predicted * 1e6:.1f}",
            f"{row.measured * 1e6:.1f}",
            f"{row.error:+.1%}",
            *(f"{speedup:.2f}" for speedup in speedups.get(row, ())),
        )
        for row in validation.rows
    ]
    overheads = ", ".join(f"{k} {s * 1e6:.1f} us" for k, s in validation.overheads.items())
    errors = [row.error for row in validation.rows]
    return "\n".join(
        (
            tabulate(
                table,
                ("kernel", "shape", "level", "floor us", "measured us", "error", "ideal", "got"),
                disable_numparse=True,
            ),
            f"{host_target().name}, one thread, weights in no cache, {DTYPE}, "
            f"{datetime.now(timezone.utc).date().isoformat()}",
            f"one thread reads {validation.bandwidth / 1e9:.1f} GB/s; overheads {overheads}; "
            f"{validation.noise}",
            f"times: median absolute error {validation.error:.1%}, from {min(errors):+.1%} to "
            f"{max(errors):+.1%}; {validation.below_floor} of {len(errors)} are below the floor",
            f"speed-ups over the same kernel at level 0: median absolute error "
            f"{validation.speedup_error:.1%}",
            *(
                f"{op}: times {times:.1%}, speed-ups {speedups:.1%}"
                for op, times, speedups in validation.by_op
            ),
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        "python -m pytest_sparsity.speed.validate_roofline",
        description="Compares the roofline with times measured on this machine's CPU.",
    )
    parser.add_argument("--rounds", type=int, default=60, help="timed runs of each, at least 10")
    given = parser.parse_args(arguments)
    if given.rounds < 10:
        parser.error(f"--rounds {given.rounds}: at least 10")
    print(report(validate(rounds=given.rounds)))
    return 0


if __name__ == "__main__":
    exit_with(main)
