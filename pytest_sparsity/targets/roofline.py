"""How fast an op can be on a machine: no kernel is faster than its bytes.

Decoding multiplies a few rows by every weight of a model, and is bound by memory.  The floor of a
call is an overhead and the bytes it must move over the bandwidth; what is saved by skipping
weights follows from the bytes.  Floors are limits, not forecasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets.work import Format, Traffic, Work, work

_STEPS = 60  # halvings of the interval that the break-even level is in


@dataclass(frozen=True)
class Machine:
    """What a roofline needs to know of a machine.

    Attributes:
        name: for people.
        bandwidth: bytes per second from memory.
        cache: bytes of the outermost cache, None if not known.
        overhead: seconds that a call costs besides its bytes; 0 where it is not known.
        source: where the bandwidth is from.
    """

    name: str
    bandwidth: float
    cache: float | None = None
    overhead: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Roofline:
    """What can be gained by an op at a level on a machine.

    Attributes:
        machine: where.
        level: fraction inactive.
        work: the bytes.
        resident: the dense weights fit into the outermost cache, and are taken to stay there
            from call to call: no bandwidth of memory is in the floors, which are then nothing
            but overhead.
        dense_seconds: floor of the dense kernel.
        seconds: floor of the sparse kernel.
        ideal: bytes of weights that a dense kernel reads over those that are needed: the speed-up
            if nothing else took time; 1/(1 - s) for a linear layer, 3/(3 - 2 s) for a swiglu
            whose gate is read whole.  Infinite if none is needed.
        break_even: least level at which the sparse kernel is not slower than dense, given its
            bandwidth and overhead; None if it is slower at every level.
    """

    machine: Machine
    level: float
    work: Work
    resident: bool
    dense_seconds: float
    seconds: float
    ideal: float
    break_even: float | None

    @property
    def speedup(self) -> float:
        """Floor of dense over floor of sparse: what overhead and activations leave of the ideal.

        1 where weights stay in a cache and nothing is known of it: the model says nothing then.
        """
        return self.dense_seconds / self.seconds if self.seconds else 1.0


def plan(
    traffic: Traffic,
    shape: tuple[int, int],
    dtype: str,
    level: float,
    rows: int,
    target: Machine,
    *,
    form: Format | None = None,
    cold: bool = False,
    relative: float = 1.0,
    extra: float = 0.0,
) -> Roofline:
    """The floor of an op, its ideal speed-up and its break-even level on a machine.

    Args:
        traffic: what the op moves, as its record has it.
        shape: input channels and outputs, or neurons of an MLP.
        dtype: of activations, and of weights that are not packed.
        level: fraction inactive, from 0 to 1.
        rows: tokens at once.
        target: the machine.
        form: of packed weights.
        cold: weights come from memory even if they would fit into the cache, as they do when a
            model as a whole does not.
        relative: bandwidth that the sparse kernel reaches, as a fraction of the dense one's;
            only the break-even level depends on it.
        extra: seconds that the sparse kernel costs besides; only the break-even level depends
            on it.

    Raises:
        SparsityError: an argument is impossible.
    """
    if not relative > 0:
        raise SparsityError(f"relative bandwidth {relative}: it must be more than 0")
    moved = work(traffic, *shape, dtype, level, rows, form)
    resident = not cold and target.cache is not None and moved.dense_weights <= target.cache

    def seconds(total: float) -> float:
        return target.overhead + (0.0 if resident else total / target.bandwidth)

    dense = seconds(moved.dense_total)

    def slower(at: float) -> bool:
        total = work(traffic, *shape, dtype, at, rows, form).total
        return seconds(total / relative) + extra > dense * (1 + 1e-12)

    return Roofline(
        target,
        level,
        moved,
        resident,
        dense,
        seconds(moved.total),
        moved.dense_weights / moved.weights if moved.weights else float("inf"),
        None if resident else _least(slower),
    )


def _least(slower: Callable[[float], bool]) -> float | None:
    """The least level that is not slower; bytes never grow with the level."""
    if slower(1.0):
        return None
    if not slower(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slower(middle) else (low, middle)
    return high
