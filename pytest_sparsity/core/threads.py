"""How many threads libraries of another process start."""

from __future__ import annotations

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def limited_to(threads: int) -> dict[str, str]:
    """The environment variables that limit what a process starts, before it imports anything."""
    return dict.fromkeys(_VARIABLES, str(threads))
