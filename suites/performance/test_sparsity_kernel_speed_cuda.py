"""How much faster than cuBLAS the sparse kernels are on a GPU, and how near to its memory's limit.

Alone, on a machine with a GPU, in about two minutes:

    pytest --sparsity-sweep --sparsity-suite=performance --sparsity-target=cuda -k speed_cuda

It leaves a receipt in the report's folder ``receipts``; copied to ``ci/receipts`` and committed,
the project's tests tell when the kernels that it is of have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_sparsity.fixtures import HardwareTarget, Settings, SweepSession
from pytest_sparsity.results import Outcome
from pytest_sparsity.speed import (
    Oracle,
    Problem,
    Spread,
    copy_bandwidth,
    dense_ways,
    describe_noise,
    linear_problem,
    p10_ratio,
    runnable,
    time_graphs,
    write_receipt,
)
from pytest_sparsity.testing import Kernel

Report = Callable[[str, str, Mapping[str, Any]], None]

LEVELS = (0.5, 0.65)
SHAPES = ((4096, 4096), (4096, 1024), (4096, 14336), (14336, 4096))  # Llama-3-8B
JUDGED = (4096, 14336)  # smaller layers are bound by what a launch costs
SPEED = {0.5: 1.8, 0.65: 2.5}  # times cuBLAS, at least
BANDWIDTH = 0.85  # of a copy's, in bytes of weights that must be read, at least
ROUNDS = 60
CUBLAS = "torch F.linear"
COMMAND = (
    "pytest --sparsity-sweep --sparsity-suite=performance --sparsity-target=cuda -k speed_cuda"
)

pytestmark = pytest.mark.usefixtures("machine_to_oneself")


def test_kernels_beat_cublas(
    hardware_target: HardwareTarget,
    sparsity_settings: Settings,
    sparsity_session: SweepSession,
    report_kernels: Report,
) -> None:
    """``sparse_linear`` in bfloat16 on the layers of Llama-3-8B, one row.

    CUDA graphs, L2 flushed, interleaved.  The limits are for the fastest kernel on the largest
    layer.
    """
    if hardware_target.kind != "cuda":
        pytest.skip(f"times kernels of a GPU, and the target is {hardware_target.device}")
    seed, device = sparsity_settings.seed, hardware_target.device
    kernels = runnable("sparse_linear", "cuda", "bfloat16")
    if not kernels:
        pytest.skip("no kernel of sparse_linear runs here")
    copied = copy_bandwidth(hardware_target.index)
    lines, figures, verdicts = [f"a copy reaches {copied / 1e9:,.0f} GB/s"], {}, []
    for k, n in SHAPES:
        problem = linear_problem(k, n, LEVELS, dense_ways("cuda"), device, seed)
        runs = dict(problem.dense)
        runs |= {
            f"{kernel.name} at {level:.0%}": problem.call(kernel, level)
            for kernel in kernels
            for level in LEVELS
        }
        _check(problem, kernels)
        with sparsity_session.progress(f"time {k}x{n}", ROUNDS * len(runs), "run") as task:
            seconds = time_graphs(runs, ROUNDS, seed, task.advance)
        _check(problem, kernels)
        lines.append(f"{k}x{n}, {ROUNDS} rounds, {describe_noise(seconds)}")
        for level in LEVELS:
            names = [f"{kernel.name} at {level:.0%}" for kernel in kernels]
            fastest = min(names, key=lambda name: Spread.of(seconds[name]).p10)
            speed = p10_ratio(seconds[CUBLAS], seconds[fastest], seed=0)
            took = Spread.of(seconds[fastest]).p10
            share = problem.bytes_needed(level) / took / copied
            lines.append(
                f"  {fastest} {took * 1e6:.1f} us, {share:.0%} of the copy's bandwidth: "
                f"{speed:.2f} times cuBLAS"
            )
            figures[f"{k}x{n} at {level:.0%}"] = {
                "kernel": fastest,
                "seconds": took,
                "speed": [speed.estimate, speed.low, speed.high],
                "share_of_copy": share,
            }
            if (k, n) == JUDGED:
                enough = Outcome.PASS if share >= BANDWIDTH else Outcome.FAIL
                verdicts += [Outcome.at_least(SPEED[level], speed), enough]
    text = "\n    ".join(lines)
    report_kernels("sparse_linear on a GPU", text, {"copy": copied, **figures})
    write_receipt(
        sparsity_settings.report / "receipts",
        "sparse_linear speed",
        device=hardware_target.name,
        command=COMMAND,
        backends=sorted({kernel.backend for kernel in kernels}),
        figures={"copy_bytes_per_second": copied, **figures},
    )
    assert Outcome.FAIL not in verdicts, text
    if Outcome.INCONCLUSIVE in verdicts:
        pytest.skip(f"inconclusive: {text}")


def _check(problem: Problem, kernels: list[Kernel]) -> None:
    for level in LEVELS:
        oracle = Oracle(problem, level)
        for kernel in kernels:
            output = problem.call(kernel, level)()
            used = oracle.tolerance_used(output, kernel.precision(problem.x.dtype))
            assert used <= 1, f"{kernel.id} is wrong: its error is {used:.2g} times the bound"
