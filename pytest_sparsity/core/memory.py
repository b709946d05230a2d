"""Memory of this process, as the operating system counts it."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def can_measure_memory() -> bool:
    """Whether the system tells a process's largest memory since it was started (Linux)."""
    return _STATUS.exists()


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    if can_measure_memory():
        return resident_bytes("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes(field: str) -> int:
    """A field of /proc/self/status in bytes.

    VmHWM rather than getrusage: the latter's maximum is inherited from the process that
    started this one.
    """
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise ValueError(f"{_STATUS} has no {field}")
