"""What was timed, as plain data: what the gate judges, and what reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, stdev
from typing import Any

#: The statistic is the mean of this many fastest samples: as robust as a minimum, and not decided
#: by a single sample.
FASTEST = 3
#: The static metrics' name in stored files, which were written before they were called that.
STORED_AS = "companions"


@dataclass(frozen=True)
class Measured:
    """The samples of one contender, raw.

    Attributes:
        name: of the contender, ``op/name`` for a kernel.
        seconds: of one call, one value per sample, in the order of the rounds.
        iterations: calls that each sample is the mean of.
        processes: how many samples each process took, in order; they add up to ``seconds``.
        bytes: that a call reads and writes at least; None if that is not known.
        peak_bytes: most memory that a call held beyond its operands; None if it was not measured.
        target: fingerprint of the machine.
        device: the machine's own name.
        threads: of each process.
        versions: of this package and of those that numbers depend on.
        case: what the operands were, as ``checking.case`` prints it; empty for functions of users.
        source: hash of the kernel's source; empty for functions of users.
        test: node id of the test that measured it.
        when: ISO time, UTC.
        partial: it was interrupted, or the contender failed, before all rounds were done.
        static_metrics: figures that are the same in every run (``static_metrics.py``).
    """

    name: str
    seconds: tuple[float, ...]
    iterations: int
    processes: tuple[int, ...]
    bytes: int | None
    peak_bytes: int | None
    target: str
    device: str
    threads: int
    versions: Mapping[str, str | None]
    case: str = ""
    source: str = ""
    test: str = ""
    when: str = ""
    partial: bool = False
    static_metrics: Mapping[str, int] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """Seconds of an undisturbed call: the mean of the fastest samples."""
        return best(self.seconds)

    @property
    def bests(self) -> tuple[float, ...]:
        """:attr:`best` of each process."""
        found, start = [], 0
        for count in self.processes:
            found.append(best(self.seconds[start : start + count]))
            start += count
        return tuple(found)

    @property
    def spread(self) -> float:
        """How much undisturbed processes differ: standard deviation of the fastest over the least.

        A process that ran beside another for all its time is slower by half, and would make
        everything after it seem within the spread.
        """
        bests = sorted(self.bests)[:FASTEST]
        return stdev(bests) / bests[0] if len(bests) > 1 else 0.0

    @property
    def noise(self) -> float:
        """Median over best: 1 on a machine that does nothing else."""
        return median(self.seconds) / self.best

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second of the best time."""
        return None if self.bytes is None else self.bytes / self.best

    def to_json(self) -> dict[str, Any]:
        """Plain data that :meth:`from_json` reads."""
        content = asdict(self)
        content[STORED_AS] = content.pop("static_metrics")
        return content | {"seconds": list(self.seconds), "processes": list(self.processes)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Measured:
        """What :meth:`to_json` made.

        Raises:
            ValueError: it is not whole.
        """
        tables: list[Any] = [content.get(name, {}) for name in ("versions", STORED_AS)]
        if not all(isinstance(table, Mapping) for table in tables):
            raise ValueError(f"its versions or {STORED_AS} are no table")
        if not all(isinstance(figure, int) for figure in tables[1].values()):
            raise ValueError(f"its {STORED_AS} are no whole numbers")
        fields = {name: value for name, value in content.items() if name != STORED_AS}
        try:
            found = cls(
                **{
                    **fields,
                    "static_metrics": tables[1],
                    "seconds": tuple(map(float, content["seconds"])),
                    "processes": tuple(map(int, content["processes"])),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete: {error}") from error
        if sum(found.processes) != len(found.seconds) or not all(found.processes):
            raise ValueError("its processes do not add up to its samples")
        if any(not value > 0 for value in found.seconds):
            raise ValueError("it has times that are not positive")
        return found


def best(seconds: Sequence[float]) -> float:
    """Mean of the :data:`FASTEST` shortest times.

    Raises:
        ValueError: there are none.
    """
    fastest = sorted(seconds)[:FASTEST]
    if not fastest:
        raise ValueError("there are no times")
    return sum(fastest) / len(fastest)
