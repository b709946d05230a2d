"""Machines to plan for: from the table of known ones, or this one as it was measured."""

from __future__ import annotations

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets.bandwidth import measured
from pytest_sparsity.targets.host import HardwareTarget
from pytest_sparsity.targets.known import KNOWN, Known, is_known, known
from pytest_sparsity.targets.resolve import is_target, resolve_target
from pytest_sparsity.targets.roofline import Machine


def machines(name: str, threads: int | None = None) -> tuple[Machine, ...]:
    """The machines of this name: ``h200``, ``apple-m3-max``, or ``cpu``, ``cuda:0`` and ``auto``.

    More than one only for a family: ``h100`` is SXM and PCIe.

    Args:
        name: what the user calls it.
        threads: of this machine's CPU that work at once; None for all cores.

    Raises:
        SparsityError: there is no such machine, and neither such a device here.
    """
    if is_known(name):
        return tuple(map(of_known, known(name)))
    if is_target(name):
        return (of_target(resolve_target(name, "--target"), threads),)
    raise SparsityError(
        f"--target {name!r} is not known; use auto, cpu or cuda:INDEX for this machine, or one of "
        f"{', '.join(row.key for row in KNOWN)}"
    )


def of_known(row: Known) -> Machine:
    """A machine by its datasheet."""
    return Machine(
        name=row.name,
        bandwidth=row.bandwidth.value,
        cache=row.cache.value if row.cache else None,
        overhead=row.overhead.value if row.overhead else 0.0,
        source=f"{row.bandwidth.source.title}, {row.bandwidth.source.url}",
    )


def of_target(target: HardwareTarget, threads: int | None = None) -> Machine:
    """A device of this machine, its bandwidth measured.

    A single thread has the caches around one core, all threads together have all of them.
    """
    if target.kind == "cuda":
        row = next((row for row in KNOWN if row.matches(target.name)), None)
        return Machine(
            name=target.name,
            bandwidth=target.bandwidth,
            cache=target.cache_bytes or (row.cache.value if row and row.cache else None),
            overhead=row.overhead.value if row and row.overhead else 0.0,
            source="a copy on the device, measured",
        )
    count = min(threads or target.cores, target.cores)
    cache = target.caches[-1].size if target.caches and count == 1 else target.cache_bytes
    return Machine(
        name=f"{target.name}, {count} thread{'s' * (count > 1)}",
        bandwidth=measured(target, count),
        cache=cache or None,
        source="reading main memory, measured",
    )
