"""The caches of the processor: of Linux from sysfs, of macOS from sysctl."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Cache:
    """The data or unified caches of one level that a set of processors has.

    Attributes:
        level: 1, 2, 3.
        size: bytes of one of them.
        instances: how many of them there are.
    """

    level: int
    size: int
    instances: int

    @property
    def total(self) -> int:
        """Bytes of all of them: what threads on all of these processors can hold."""
        return self.size * self.instances


def read_sysfs(folder: Path, cpus: Iterable[int]) -> tuple[Cache, ...]:
    """The caches of these processors, innermost level first; empty where sysfs does not tell.

    Args:
        folder: ``/sys/devices/system/cpu``, or a copy of it.
        cpus: the processors whose caches count.
    """
    found: dict[int, dict[str, int]] = {}  # level -> processors that share one -> its size
    for cpu in sorted(cpus):
        for index in sorted((folder / f"cpu{cpu}" / "cache").glob("index*")):
            try:
                kind, level, size = (_text(index / name) for name in ("type", "level", "size"))
                if kind == "Instruction":
                    continue
                shared = _text(index / "shared_cpu_list")
                found.setdefault(int(level), {})[shared] = _bytes(size)
            except (OSError, ValueError):  # a virtual machine may hide any of these
                continue
    return tuple(
        Cache(level, max(sizes.values()), len(sizes)) for level, sizes in sorted(found.items())
    )


def read_sysctl(read: Callable[[str], str]) -> tuple[Cache, ...]:
    """The caches of a Mac, of the fast cores where there are two kinds.

    Args:
        read: the value of a kernel variable, empty where there is none.
    """

    def number(*keys: str) -> int:
        texts = (read(key) for key in keys)
        return next((int(text) for text in texts if text.isdigit()), 0)

    cores = number("hw.perflevel0.physicalcpu", "hw.physicalcpu") or 1
    sharing = number("hw.perflevel0.cpusperl2") or 1
    sizes = {
        1: (number("hw.perflevel0.l1dcachesize", "hw.l1dcachesize"), cores),
        2: (number("hw.perflevel0.l2cachesize", "hw.l2cachesize"), -(-cores // sharing)),
        3: (number("hw.l3cachesize"), number("hw.packages") or 1),
    }
    return tuple(Cache(level, size, count) for level, (size, count) in sizes.items() if size)


def _text(path: Path) -> str:
    return path.read_text().strip()


def _bytes(text: str) -> int:
    """``48K`` in bytes."""
    if text and text[-1] in _UNITS:
        return int(text[:-1]) * _UNITS[text[-1]]
    return int(text)
