"""``python -m pytest_sparsity.cli.device.timing LAYER``: how fast kernels are at a layer.

CUDA graphs and a flushed L2 cache, interleaved with cuBLAS and with a graph of one kernel that
does next to nothing: the floor, which a small layer cannot go below.  Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs
from pytest_sparsity.speed.cold import Spread, p10_ratio
from pytest_sparsity.speed.device import time_graphs
from pytest_sparsity.speed.problems import (
    Oracle,
    Problem,
    dense_ways,
    linear_problem,
    qkv_problem,
    runnable,
    swiglu_problem,
)
from pytest_sparsity.targets.bandwidth import copy_bandwidth

LEVEL, ROUNDS, SEED = 0.5, 40, 0
CUBLAS, FLOOR = "torch F.linear", "one element"
#: Of a copy's bandwidth, in bytes of weights that must be read: of layers that fill the device, and
#: of those whose time is half a launch.
LARGE, SMALL = 0.85, 0.60


@dataclass(frozen=True)
class Layer:
    """What is timed.

    Attributes:
        make: the problem, from levels, dense ways, device and seed.
        least: share of a copy's bandwidth that the fastest kernel must reach.
    """

    make: Callable[..., Problem]
    least: float


def _linear(k: int, n: int, least: float) -> Layer:
    return Layer(lambda *rest: linear_problem(k, n, *rest), least)


def layers() -> dict[str, Layer]:
    """The layers by name; those of Llama-3-8B, in bfloat16."""
    linear, mlp, stacked = (
        op_of(inputs).name for inputs in (SparseLinearInputs, SparseSwigluInputs, SparseQkvInputs)
    )
    return {
        f"{linear} 4096x14336": _linear(4096, 14336, LARGE),
        f"{linear} 4096x128256, a head": _linear(4096, 128256, LARGE),
        f"{linear} 4096x4096, of q and o": _linear(4096, 4096, SMALL),
        f"{linear} 4096x1024, of k and v": _linear(4096, 1024, SMALL),
        f"{mlp} 4096x14336": Layer(lambda *rest: swiglu_problem(4096, 14336, *rest), LARGE),
        f"{stacked} 4096x4096+1024+1024": Layer(
            lambda *rest: qkv_problem(4096, (4096, 1024, 1024), *rest), SMALL
        ),
    }


def judged(
    problem: Problem, times: Mapping[str, Sequence[float]], copied: float, least: float
) -> dict[str, Any]:
    """What the times of a layer come to.

    Args:
        problem: what was timed, at ``LEVEL``.
        times: seconds of each kernel by name, of ``CUBLAS`` and of ``FLOOR``.
        copied: bytes per second that a copy reads and writes.
        least: share of it that the fastest kernel must reach.
    """
    floor = Spread.of(times[FLOOR]).p10
    read = problem.bytes_needed(LEVEL)
    kernels: dict[str, dict[str, Any]] = {}
    for name in times.keys() - {FLOOR, *problem.dense}:
        took = Spread.of(times[name]).p10
        ratio = p10_ratio(times[CUBLAS], times[name], seed=SEED)
        kernels[name] = {
            "seconds": took,
            "share_of_copy": read / took / copied,
            "share_beside_the_floor": read / max(took - floor, 1e-9) / copied,
            "times_cublas": [ratio.estimate, ratio.low, ratio.high],
        }
    best = max(kernels, key=lambda name: kernels[name]["share_of_copy"])
    enough = kernels[best]["share_of_copy"] >= least
    return {
        "status": "passed" if enough else "failed",
        "fastest": best,
        "least": least,
        "bytes": read,
        "floor_seconds": floor,
        "copy_bytes_per_second": copied,
        "kernels": kernels,
    }


def measure(name: str) -> dict[str, Any]:
    """Time a layer on the current device.

    Raises:
        SparsityError: there is no such layer.
    """
    known = layers()
    if name not in known:
        raise SparsityError(f"{name!r} is no layer; there are {', '.join(known)}")
    problem = known[name].make((LEVEL,), dense_ways("cuda"), "cuda", SEED)
    kernels = runnable(problem.op, "cuda", "bfloat16")
    if not kernels:
        return {"status": "skipped", "reason": f"no kernel of {problem.op} runs here"}
    oracle = Oracle(problem, LEVEL)
    for kernel in kernels:
        used = oracle.tolerance_used(
            problem.call(kernel, LEVEL)(), kernel.precision(problem.x.dtype)
        )
        if not used <= 1:
            return {
                "status": "failed",
                "reason": f"{kernel.id} is wrong: {used:.2g} times its bound",
            }
    del oracle
    one = torch.ones(1, device="cuda")
    runs: dict[str, Callable[[], object]] = {**problem.dense, FLOOR: lambda: one.mul_(1.0)}
    runs |= {kernel.name: problem.call(kernel, LEVEL, checked=False) for kernel in kernels}
    copied = copy_bandwidth(torch.cuda.current_device())
    return judged(problem, time_graphs(runs, ROUNDS, SEED), copied, known[name].least)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
