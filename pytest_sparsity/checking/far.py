"""The check ``far``: weights lie further apart than 32 bits can count.

A vocabulary's weights, or a stack of all layers', have more than 2^31 elements, and a kernel that
computes an offset in 32 bits reads elsewhere.  Here small weights lie in as much address space:
pages that are never touched take no memory.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.check import finite
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands

#: Elements from the first row to the last: offsets are beyond signed 32 bits, and unsigned ones.
_APART = 2**32
#: Rows at least, so that the distance of two of them is still a number of 32 bits.
_ROWS = 5
#: How many cases, and channels and outputs of one: some of a row, and few in all.
_CASES, _SIZES = 6, range(_ROWS, 300)
#: Elements: alignment of a row in memory is kept.
_ALIGNED = 64


def cases(kernel: Kernel) -> Sequence[Case]:
    """Ordinary ones among the edge cases, in which most is active and something is moved."""
    ordinary = finite(kernel)
    found = {
        (case.dtype, case.layout, case.options): case
        for case in record(kernel.op).edge_cases(kernel)
        if case.pattern in ordinary
        and case.pattern not in ("none", "zeros")
        and case.level < 1
        and all(getattr(case, name) in _SIZES for name in ("k", "n") if getattr(case, name) > 1)
    }
    own = record(kernel.op)
    return list(islice((case for case in found.values() if _moves(own, case)), _CASES))


@cache
def _moves(own: OpRecord, case: Case) -> bool:
    """Whether a case of an op has operands that can be moved."""
    try:
        inputs = own.build(case)
    except (TypeError, ValueError, SparsityError):
        return True  # which is told where the check builds them
    return bool(_movable(inputs, own.op.leading))


def applies(kernel: Kernel) -> bool:
    """Whether the op has such cases."""
    return bool(cases(kernel))


def run(trial: Trial) -> float:
    """Within the bound."""
    inputs = trial.inputs()
    return trial.verify(inputs, trial.call(apart(inputs, trial.kernel.definition.leading)))


def unavailable(device: str) -> str | None:
    """Why there is not so much address space, or memory of the device; None if there is."""
    try:
        if device == "cpu":
            _mapped(4 * _APART).close()
        else:
            torch.empty(4 * _APART, dtype=torch.uint8, device=device)
    except (OSError, OverflowError, ValueError, torch.OutOfMemoryError) as error:
        return f"there is no room for weights of 2^32 elements: {error}"
    return None


def apart(inputs: Any, leading: str) -> Any:
    """The same operands, rows of weights so far apart that the last begins beyond 2^32 elements.

    Those stay that have less than five rows, or may not have gaps.

    Args:
        inputs: operands.
        leading: which of them stays as it is.
    """
    for name, axis in _movable(inputs, leading).items():
        moved = _moved(operands.tensors(inputs)[name], axis)
        try:
            inputs = operands.with_tensors(inputs, {name: moved})
        except (TypeError, ValueError):
            continue
    return inputs


def _movable(inputs: Any, leading: str) -> dict[str, int]:
    """Operands with rows, and which of their axes these are."""
    found = {}
    for name, tensor in operands.tensors(inputs).items():
        if name != leading and tensor.ndim > 1 and 0 not in tensor.stride():
            axis = max(range(tensor.ndim), key=tensor.stride)
            if tensor.shape[axis] >= _ROWS:
                found[name] = axis
    return found


def _moved(tensor: Tensor, axis: int) -> Tensor:
    """A copy whose elements along an axis are far apart, and otherwise as they were."""
    pitch = _APART // (tensor.shape[axis] - 1) // _ALIGNED * _ALIGNED + _ALIGNED
    pitch += tensor.stride(axis) % _ALIGNED
    strides = [pitch if each == axis else stride for each, stride in enumerate(tensor.stride())]
    # One more row: as if the others went on.
    count = pitch * tensor.shape[axis]
    if tensor.device.type == "cpu":
        memory = torch.frombuffer(_mapped(count * tensor.element_size()), dtype=tensor.dtype)
    else:
        memory = torch.empty(count, dtype=tensor.dtype, device=tensor.device)
    return memory.as_strided(tensor.shape, strides).copy_(tensor)


def _mapped(size: int) -> mmap.mmap:
    """Address space of so many bytes, without memory until it is touched.

    Raises:
        OSError: there is none, by a limit of the process or a setting of the system.
    """
    # <sys/mman.h>; the module has it since Python 3.13.
    no_reserve = 0x4000 if sys.platform == "linux" else 0x40
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
