"""How fast memory is on this machine, measured.

A sparse kernel saves reads of weights, so what counts is the rate at which weights that are in no
cache are read.  Reading is timed over a buffer several times as large as the outermost cache.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write, default_cache

_BUFFER = (128 << 20, 2 << 30)  # at least, at most
_ROUNDS = 12
_FILE = "bandwidth.json"


class Machine(Protocol):
    """What is to be known of this machine to measure its memory; a ``HardwareTarget`` is one."""

    @property
    def kind(self) -> str:
        """``"cpu"`` or ``"cuda"``."""

    @property
    def index(self) -> int:
        """Number of the GPU."""

    @property
    def cores(self) -> int:
        """Logical processors that may be used."""

    @property
    def cache_bytes(self) -> int:
        """Of the outermost caches together; 0 where they cannot be told."""

    @property
    def memory_bytes(self) -> int:
        """Of main memory; 0 where it cannot be told."""

    @property
    def fingerprint(self) -> str:
        """Tells machines apart."""


def measured(target: Machine, threads: int | None = None, folder: Path | None = None) -> float:
    """Bytes per second: reading main memory, or reading and writing memory of a GPU.

    A measurement is kept for a day per fingerprint, number of cores and threads.

    Args:
        target: of this machine.
        threads: that read at once; None for as many as the target has cores.  Ignored for a GPU.
        folder: where measurements are kept; None for the user's cache folder.
    """
    threads = min(threads or target.cores, target.cores) if target.kind == "cpu" else 1
    path = (folder or default_cache()) / _FILE
    key = f"{target.fingerprint} {target.index} {target.cores} cores {threads} threads"
    today = datetime.now(timezone.utc).date().isoformat()
    kept = _kept(path, today)
    if key not in kept:
        if target.kind == "cpu":
            kept[key] = read_bandwidth(threads, buffer_bytes(target))
        else:
            kept[key] = copy_bandwidth(target.index)
        _keep(path, today, kept)
    return kept[key]


def read_bandwidth(threads: int, size: int, rounds: int = _ROUNDS) -> float:
    """Bytes per second that ``threads`` threads read of a buffer of ``size`` bytes: the best round.

    Every thread adds up the numbers of a part of its own.
    """
    import numpy as np

    read = reader()
    parts = np.array_split(np.ones(size // 8, np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:

        def once() -> float:
            started = perf_counter()
            for _ in pool.map(read, parts):
                pass
            return perf_counter() - started

        once()
        best = min(once() for _ in range(rounds))
    return float(sum(part.nbytes for part in parts)) / best


def copy_bandwidth(index: int, size: int = 1 << 30, rounds: int = 40) -> float:
    """Bytes per second, read plus written, of a copy of ``size`` bytes on a GPU: its best tenth.

    A kernel that reads weights and writes next to nothing may exceed it a little.
    """
    import torch

    with torch.cuda.device(index):
        source = torch.zeros(size, dtype=torch.int8, device="cuda")
        target = torch.empty_like(source)
        target.copy_(source)
        seconds = []
        for _ in range(rounds):
            started = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            started.record()
            target.copy_(source)
            ended.record()
            ended.synchronize()
            seconds.append(started.elapsed_time(ended) / 1e3)
    return 2 * size / float(sorted(seconds)[rounds // 10])


def buffer_bytes(target: Machine) -> int:
    """Bytes that are read to measure a CPU: several times its caches, a part of its memory."""
    least, most = _BUFFER
    wanted = max(least, min(most, 4 * target.cache_bytes))
    return min(wanted, target.memory_bytes // 8) if target.memory_bytes else wanted


@cache
def reader() -> Callable[[Any], int]:
    """Reads an array of int64 as fast as a core can, and leaves the interpreter to other threads.

    It returns the sum.
    """
    import numba

    @numba.njit(nogil=True)
    def read(part: Any) -> int:
        total = 0
        for i in range(part.size):
            total += part[i]
        return total

    return read


def _kept(path: Path, today: str) -> dict[str, float]:
    """Today's measurements; none if the file is missing, older or damaged."""
    try:
        content = json.loads(path.read_text())
        if content["day"] != today:
            return {}
        read = {str(key): float(value) for key, value in content["bytes_per_second"].items()}
        return {key: value for key, value in read.items() if 0 < value < math.inf}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _keep(path: Path, today: str, kept: dict[str, float]) -> None:
    try:
        atomic_write(path, json.dumps({"day": today, "bytes_per_second": kept}, indent=1) + "\n")
    except SparsityError:  # a machine whose cache folder is read-only measures again
        return
