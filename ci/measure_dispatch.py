"""Measures the constants by which kernels="auto" chooses, and writes kernels/dispatch.json.

    python ci/measure_dispatch.py

About three minutes on one core of a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch.nn import functional

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.kernels.dispatch import DENSE, obstacle
from pytest_sparsity.kernels.registry import Kernel, registered
from pytest_sparsity.kernels.unchecked import unchecked
from pytest_sparsity.speed.cold import QUANTILE, describe_noise, time_cold
from pytest_sparsity.targets import resolve_target

TARGET = Path(__file__).parents[1] / "kernels" / "dispatch.json"
DTYPES = ("float32", "bfloat16", "float16")
SHAPES = ((64, 160), (576, 192), (576, 1536), (1536, 576), (2048, 2048), (4096, 4096))
ROWS = (1, 2, 4, 8)
LEVELS = (0.25, 0.5, 0.75)
TINY = (64, 64)


def main() -> None:
    """Measure every kernel of ``sparse_linear`` that runs on this CPU, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="timed runs of each")
    parser.add_argument("--output", type=Path, default=TARGET, help="file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    target = resolve_target("cpu")
    kernels: dict[str, dict[str, dict[str, float]]] = {}
    noise = []
    for dtype in DTYPES:
        measured, said = measure(dtype, given.rounds)
        noise.append(f"{dtype} {said}")
        for name, constants in measured.items():
            kernels.setdefault(name, {})[dtype] = constants
            print(dtype, name, constants, flush=True)
    table = {
        "machine": target.name,
        "fingerprint": target.fingerprint,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
        "noise": noise,
        "kernels": kernels,
    }
    atomic_write(given.output, json.dumps({"devices": {"cpu": table}}, indent=1) + "\n")


def measure(dtype: str, rounds: int) -> tuple[dict[str, dict[str, float]], str]:
    """Constants per kernel for one dtype, and how noisy the run was."""
    sparse = [
        kernel
        for kernel in registered().values()
        if kernel.op == "sparse_linear" and kernel.skips and not obstacle(kernel, "cpu", dtype)
    ]
    points: dict[str, list[tuple[list[float], float]]] = {}
    times: dict[str, list[float]] = {}
    for shape in SHAPES:
        for rows in ROWS:
            runs = _contenders(dtype, shape, rows, sparse)
            tiny = {
                name: run for name, (run, _, _) in _contenders(dtype, TINY, rows, sparse).items()
            }
            seconds = time_cold({n: run for n, (run, _, _) in runs.items()}, tiny, rounds, seed=0)
            for name, (_, kernel, features) in runs.items():
                best = float(np.quantile(seconds[name], QUANTILE))
                points.setdefault(kernel, []).append((features, best))
                times[f"{shape} {rows} {name}"] = seconds[name]
    return {kernel: _fit(found) for kernel, found in points.items()}, describe_noise(times)


Contender = tuple[Callable[[], object], str, list[float]]


def _contenders(
    dtype: str, shape: tuple[int, int], rows: int, kernels: list[Kernel]
) -> dict[str, Contender]:
    """By name: what runs, the kernel it belongs to, and what the model's constants multiply."""
    k, n = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, k, generator=generator).to(getattr(torch, dtype))
    weight = torch.randn(n, k, generator=generator).to(x.dtype)
    channels = weight.t().contiguous().t()
    size = weight.numel() * weight.element_size()
    found: dict[str, Contender] = {
        DENSE: (partial(functional.linear, x, weight), DENSE, [1.0, size, (rows - 1) * size])
    }
    for level in LEVELS:
        threshold = float(x.abs().float().quantile(level)) if x.numel() < 1 << 24 else level
        active = 1 - level
        union = 1 - level**rows
        features = [1.0, union * size, (rows - 1) * active * size]
        for kernel in kernels:
            run = partial(unchecked(kernel), x=x, weight=channels, threshold=threshold, bias=None)
            found[f"{kernel.name} {level}"] = (run, kernel.name, features)
    return found


def _fit(points: list[tuple[list[float], float]]) -> dict[str, float]:
    """Constants that are never negative, by least squares of the relative errors."""
    features = np.array([row for row, _ in points])
    seconds = np.array([time for _, time in points])
    (t0, byte, further), _ = nnls(features / seconds[:, None], np.ones(len(seconds)))
    fastest = 1e-13  # seconds per byte: nothing is faster than 10 TB/s
    return {
        "t0": float(f"{t0:.3g}"),
        "bandwidth": float(f"{1 / max(byte, fastest):.3g}"),
        "row_bandwidth": float(f"{1 / max(further, fastest):.3g}"),
    }


if __name__ == "__main__":
    main()
