"""Figures that every run of the same code gives alike, so that no statistics are needed.

By name: ``weight_bytes`` that the op needs of the operands (all of them, if the kernel does not
skip), ``allocations``, ``allocated_bytes`` and ``peak_bytes`` of a call, ``launches`` on a CUDA
device, ``instructions`` of native kernels where valgrind is installed (with the compiler, between
which they do not compare), and of compiled kernels per architecture ``launches``, ``registers``,
``spills`` and
``load_bits`` (the widest load of an operand).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.operands import tensors
from pytest_sparsity.reference.ops import OPS

#: Of these, more is better.
_GAINS = ("load_bits",)
#: These change with the compiler, and are compared only if its version is the same.
_COMPILERS = ("registers", "spills", "load_bits")
#: What a figure may change by, as a fraction, and be the same: nothing, unless it is here.
TOLERANCES = {"instructions": 0.001}


@dataclass(frozen=True)
class Difference:
    """A figure that changed."""

    name: str
    before: int
    now: int

    @property
    def worse(self) -> bool:
        """Whether it changed for the worse."""
        return (self.now < self.before) == (self.name.split()[0] in _GAINS)

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.now}"


def weight_bytes(kernel: Kernel, inputs: Any) -> int:
    """Bytes of weights that a call must read: those of active channels, or all of them."""
    masks = OPS[kernel.op].must_read(inputs)
    named = tensors(inputs)
    return sum(
        (int(mask.sum()) if kernel.skips else mask.numel()) * named[name].element_size()
        for name, mask in masks.items()
    )


def differences(
    before: Mapping[str, int], now: Mapping[str, int], same_compiler: bool
) -> Sequence[Difference]:
    """The figures that both have and that differ.

    Args:
        before: of the baseline.
        now: of the candidate.
        same_compiler: whether both were compiled by one version.
    """
    return [
        Difference(name, before[name], now[name])
        for name in before
        if name in now
        and abs(now[name] - before[name]) > TOLERANCES.get(name.split()[0], 0) * before[name]
        and (same_compiler or name.split()[0] not in _COMPILERS)
    ]
