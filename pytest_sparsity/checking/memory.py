"""Checks of memory: nothing outside of operands is used, and nothing of skipped weights."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import guards, protect
from pytest_sparsity.checking.cases import sizes
from pytest_sparsity.checking.check import ordinary
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands


def bounds_cases(kernel: Kernel) -> Space:
    """Cases in which the last channel is active: TEAL reads past the end only then."""
    own = record(kernel.op)
    among = [p for p in ("last", "all", "random", "first") if p in own.patterns]
    return ordinary(kernel, pattern=among or own.patterns)


def bounds(trial: Trial) -> float:
    """No memory outside of operands and results is used: it is NaN, or cannot be touched."""
    inputs = trial.inputs()
    used = trial.verify(inputs, trial.guarded(inputs), "is off with NaN around its operands")
    if trial.disposable and trial.device == "cpu":
        for side in ("begin", "end"):
            fenced = protect.fenced(inputs, side)
            used = max(used, trial.verify(inputs, trial.call(fenced)))
    return used


def unread_cases(kernel: Kernel) -> Space:
    """Cases with weights of a channel that fill pages: those can be made inaccessible."""
    page = mmap.PAGESIZE // 2  # elements, of two bytes each or less
    return ordinary(kernel, **{"k": sizes(192)} | dict(record(kernel.op).paged(page)))


def unread(trial: Trial) -> float:
    """Weights that are not needed may be NaN, or in memory that cannot be read."""
    inputs = trial.inputs()
    needed = trial.kernel.definition.must_read(inputs)
    output = trial.guarded(inputs)
    used = trial.verify(inputs, output)
    spoiled = [_spoiled(inputs, needed)]
    if trial.disposable and trial.device == "cpu":
        spoiled.append(protect.without_skipped(inputs, needed))
    what = "depends on weights that are not needed: it changes when they are NaN,"
    for other in spoiled:
        result = trial.call(other)
        if trial.kernel.deterministic:
            exactly(result, output, what)
        used = max(used, trial.verify(inputs, result, what))
    return used


def _spoiled(inputs: Any, needed: Mapping[str, Tensor]) -> Any:
    """``inputs`` with NaN, or all bits set, in weights that are not needed."""
    changed = guards.guarded(inputs)
    tensors = operands.tensors(changed)
    for name, mask in needed.items():
        tensor = tensors[name]
        bad = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
        tensor.masked_fill_(~mask, bad)
    return changed
