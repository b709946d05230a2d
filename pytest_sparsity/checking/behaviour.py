"""Checks of what a kernel does from call to call: the same again, and operands as they were."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.cases import NOTABLE
from pytest_sparsity.checking.check import ordinary
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Tensors, Trial, exactly, same_bits
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands

#: How often a kernel runs on the same operands.
RUNS = 20
#: So often if Triton interprets it: its programs run one after another, always in the same order.
_INTERPRETED_RUNS = 5


def repeat_cases(kernel: Kernel) -> Space:
    """Cases with much to sum, where another order of summation shows."""
    own = record(kernel.op)
    among = [name for name in ("random", "all", "large") if name in own.patterns]
    sizes = [size for size in NOTABLE if size > 64]
    wide = {name: sizes for name in ("k", "n") if len(set(own.space.get(name, ()))) > 1}
    return ordinary(kernel, pattern=among, level=(0.0, 0.5), values=("normal",), **wide)


def repeat(trial: Trial) -> float:
    """The same operands give the same bits, run after run and for any number of threads."""
    inputs = trial.inputs()
    first = tuple(each.clone() for each in trial.call(inputs))
    used = trial.verify(inputs, first)
    threads = torch.get_num_threads()
    try:
        # One that need not repeat itself is shown more orders by two threads.
        torch.set_num_threads(threads if trial.kernel.deterministic else 2)
        interpreted = trial.kernel.backend == "triton" and trial.device == "cpu"
        runs = _INTERPRETED_RUNS if interpreted else RUNS
        for run in range(1, runs):
            used = max(used, _again(trial, inputs, first, f"in run {run + 1} of {runs}"))
        for count in (1, 2):
            torch.set_num_threads(count)
            used = max(used, _again(trial, inputs, first, f"with {count} thread(s)"))
    finally:
        torch.set_num_threads(threads)
    return used


def _again(trial: Trial, inputs: Any, first: Tensors, when: str) -> float:
    output = trial.call(inputs)
    if same_bits(output, first):  # which was verified
        return 0.0
    if trial.kernel.deterministic:
        exactly(output, first, f"is declared deterministic and gives another result {when}")
        raise CheckFailure(
            f"is declared deterministic and gives another sign of zero or NaN {when}"
        )
    return trial.verify(inputs, output, f"is off {when}")


def inputs_cases(kernel: Kernel) -> Space:
    """Cases with nothing to do, with all, and with some."""
    # With nothing or all to do, a kernel may take a way of its own.
    own = record(kernel.op)
    among = [p for p in ("random", "all", "none", "zeros") if p in own.patterns]
    rows = (1, min(kernel.max_rows, max(own.space.get("rows", (1,)))))
    return ordinary(kernel, pattern=among or own.patterns, rows=rows)


def inputs_kept(trial: Trial) -> float:
    """Operands stay as they are, and every result is a new tensor."""
    other = replace(trial, case=replace(trial.case, seed=trial.case.seed + 1))
    first, second, untouched = trial.inputs(), other.inputs(), trial.inputs()
    output = trial.call(first)
    for each in output:
        if not each.is_contiguous():
            raise CheckFailure(f"returned a tensor that is not contiguous: strides {each.stride()}")
    used = trial.verify(first, output)
    before = operands.tensors(untouched)
    for name, tensor in operands.tensors(first).items():
        if not same_bits((tensor,), (before[name],)):
            raise CheckFailure(f"changed its operand {name}")
        if any(_share_memory(tensor, each) for each in output):
            raise CheckFailure(f"returned memory of its operand {name}")
    kept = tuple(each.clone() for each in output)
    later = other.call(second)
    if not same_bits(output, kept):
        raise CheckFailure("changed its first result when it was called again")
    if any(_share_memory(one, two) for one, two in product(output, later)):
        raise CheckFailure("returned the same memory twice")
    return max(used, other.verify(second, later, "is off in a second call"))


def _share_memory(left: Tensor, right: Tensor) -> bool:
    if left.numel() == 0 or right.numel() == 0:
        return False
    return left.untyped_storage().data_ptr() == right.untyped_storage().data_ptr()
