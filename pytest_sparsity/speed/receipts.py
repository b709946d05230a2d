"""Receipts of measurements on devices that are seldom at hand, and when they are out of date.

A receipt says which device, versions and kernel sources its figures are from.  Once the sources
of those kernels change, the figures are of other kernels, and the receipt is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.kernels.sources import KERNELS, sources_hash


@dataclass(frozen=True)
class Receipt:
    """What one benchmark measured on one device.

    Attributes:
        name: of the benchmark.
        device: the device's own name.
        when: the day, ISO 8601.
        command: what was run.
        versions: of the packages that matter.
        sources: folder of ``kernels/`` to the hash of the sources that were measured.
        figures: what was measured.
    """

    name: str
    device: str
    when: str
    command: str
    versions: Mapping[str, str | None]
    sources: Mapping[str, str]
    figures: Mapping[str, Any]


def receipt(
    name: str,
    device: str,
    command: str,
    versions: Mapping[str, str | None],
    backends: Iterable[str],
    figures: Mapping[str, Any],
) -> Receipt:
    """A receipt of today, of the sources of these backends as they are now."""
    today = datetime.now(timezone.utc).date().isoformat()
    sources = {backend: sources_hash(backend) for backend in backends}
    return Receipt(name, device, today, command, dict(versions), sources, dict(figures))


def write_receipt(
    folder: Path,
    name: str,
    *,
    device: str,
    command: str,
    backends: Iterable[str],
    figures: Mapping[str, Any],
) -> Path:
    """Write what a benchmark measured to ``folder``, with the versions and sources it is of.

    Args:
        folder: made if it is missing.
        name: of the benchmark.
        device: the device's own name.
        command: measures it again.
        backends: folders of ``kernels/`` that were measured.
        figures: what was measured, as plain JSON.

    Returns:
        The file; an earlier one of this benchmark and device is replaced.
    """
    return write(receipt(name, device, command, versions(), backends, figures), folder)


def write(made: Receipt, folder: Path) -> Path:
    """Write a receipt to ``folder``, in place of an earlier one of this benchmark and device."""
    words = f"{made.name} {made.device}".lower()
    stem = "-".join("".join(c if c.isalnum() else " " for c in words).split())
    path = folder / f"{stem}.json"
    atomic_write(path, json.dumps(asdict(made), indent=1, sort_keys=True) + "\n")
    return path


def read(path: Path) -> Receipt:
    """The receipt in a file.

    Raises:
        SparsityError: the file holds none.
    """
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise SparsityError(
            f"{path} is not a receipt ({type(error).__name__}: {error}); measure again"
        ) from error


def stale(found: Receipt, kernels: Path = KERNELS) -> str | None:
    """Why the figures are not of today's kernels; None if they are."""
    changed = [
        backend for backend, hash in found.sources.items() if sources_hash(backend, kernels) != hash
    ]
    if not changed:
        return None
    return (
        f"{found.name} on {found.device} was measured on {found.when}, and kernels/"
        f"{', kernels/'.join(sorted(changed))} changed since; measure again: {found.command}"
    )
