"""The check ``work``: a kernel reads the weights it needs, once each, and nothing else.

Counted in the interpreter or the emulation, exactly.  A kernel that multiplies by zero instead of
skipping gives the right result in the time of a dense one; here it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.emulation import launching
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.traffic import Traffic
from pytest_sparsity.checking.trial import Trial, same_bits
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.ops import as_tuple

#: How often a kernel may load each weight of a large operand, on average, for one row of x.
MAX_LOADS = 1.01
#: Bits of a packed operand that make another one of it: of both halves of a byte.
_FLIPPED = 0x11


@dataclass(frozen=True)
class Loads:
    """What a kernel did in memory.

    Attributes:
        needed: bytes of weights that the op needs.
        loaded: bytes of weights that were loaded, those loaded again included.
        dense: bytes of all weights.
        x_loads: how often each element of x was loaded, on average.
        atomics: most atomic additions to one element of a result.
        launches: of kernels.
        same: places that several programs of a launch stored the same value to.
    """

    needed: int
    loaded: int
    dense: int
    x_loads: float
    atomics: int
    launches: int
    same: int = 0

    def __str__(self) -> str:
        dense = self.dense or 1
        return (
            f"{self.loaded / dense:.4f} of the dense weight bytes, {self.needed / dense:.4f} "
            f"needed; x loaded {self.x_loads:.3g} times, {self.atomics} atomics per output, "
            f"{self.launches} launches"
            + f", {self.same} places stored alike by several programs"
            * bool(self.same)
        )


def run(trial: Trial) -> float:
    """The check: :func:`measured`, told in the trial's figures."""
    trial.figures.append(str(measured(trial)))
    return 0.0


def measured(trial: Trial) -> Loads:
    """Count what the kernel loads.

    Raises:
        CheckFailure: it loads weights of skipped channels, or weights again and again, or none at
            all, or not all that its result depends on; it touches memory outside of its tensors or
            beside the elements of an operand; or two of its programs are in each other's way.
    """
    inputs = trial.inputs()
    tensors = operands.tensors(inputs)
    with _watched(trial, tensors) as traffic:
        trial.call(inputs)
    if traffic.violations:
        raise CheckFailure(f"has {traffic.violations[0]}")
    if traffic.races:
        raise CheckFailure(f"has a race: {traffic.races[0]}")
    loaded, needed, dense = {}, {}, {}
    for name, mask in trial.kernel.definition.must_read(inputs).items():
        size, reads = tensors[name].element_size(), traffic.reads(name)
        if name.partition(".")[0] in trial.kernel.contract.outside:
            if reads.bytes:
                raise CheckFailure(
                    f"loads {name} in its launches, though its contract says that another library "
                    "multiplies it"
                )
            continue
        spare = int(((reads.counts > 0) & ~mask).sum())
        if spare:
            raise CheckFailure(
                f"loads {spare} of the {int((~mask).sum())} elements of {name} that belong to "
                f"skipped channels: {reads.factor:.4f} of its bytes, where "
                f"{float(mask.double().mean()):.4f} are needed"
            )
        if mask.any() and not reads.bytes:
            raise CheckFailure(
                f"does not load {name} in its launches, though {int(mask.sum())} elements of it "
                "are needed: it works on a copy, or not in its launches"
            )
        _check_missing(trial, inputs, name, mask & (reads.counts == 0))
        loaded[name], needed[name] = reads.bytes, int(mask.sum()) * size
        dense[name] = mask.numel() * size
    if trial.case.rows == 1:  # several may be computed one after another
        _check_repetition(loaded, needed, dense)
    return Loads(
        sum(needed.values()),
        sum(loaded.values()),
        sum(dense.values()),
        traffic.reads(trial.kernel.definition.leading).factor,
        traffic.atomics,
        len(traffic.launches),
        traffic.same,
    )


@contextmanager
def _watched(trial: Trial, tensors: Mapping[str, Tensor]) -> Iterator[Traffic]:
    """Counts what launches do: Triton's in its interpreter, those of CUDA C++ in the emulation."""
    if trial.kernel.source is None:
        from pytest_sparsity.checking import interpreter

        with interpreter.watch(tensors) as traffic:
            yield traffic
        return
    traffic = Traffic.of(tensors)
    with launching.watching(launching.Watch(traffic.counts)) as watch:
        yield traffic
    traffic.launches += watch.launches
    traffic.atomics = watch.atomics


def _check_missing(trial: Trial, inputs: Any, name: str, missing: Tensor) -> None:
    """See that what was not loaded of an operand does not matter.

    More may be read than matters: whole blocks, a group for one of its weights.
    """
    if not missing.any():
        return
    tensor = operands.tensors(inputs)[name]
    if tensor.is_floating_point():
        other = torch.where(missing, torch.nan, tensor)
    else:
        other = torch.where(missing, tensor ^ _FLIPPED, tensor)
    op = trial.kernel.definition
    try:
        changed = as_tuple(op.define(operands.with_tensors(inputs, {name: other})))
    except (ValueError, TypeError):  # the op cannot have such operands
        return
    if not same_bits(changed, as_tuple(op.define(inputs))):
        raise CheckFailure(
            f"does not load {int(missing.sum())} elements of {name} in its launches, and its "
            "result depends on them: it works on a copy of them, or leaves them out"
        )


def _check_repetition(
    loaded: Mapping[str, int], needed: Mapping[str, int], dense: Mapping[str, int]
) -> None:
    """Large operands are to be loaded once; what is small, like scales, a cache holds."""
    for name, size in dense.items():
        if 4 * size >= sum(dense.values()) and loaded[name] > MAX_LOADS * needed[name]:
            raise CheckFailure(
                f"loads each needed element of {name} {loaded[name] / needed[name]:.2f} times, on "
                f"average; at most {MAX_LOADS} times is right for one row"
            )
