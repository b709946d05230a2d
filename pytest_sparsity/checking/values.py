"""Checks of values within the bound: at both ends, for rows by themselves, beyond a contract."""

from __future__ import annotations

from typing import Any

import torch

from pytest_sparsity.checking.check import ordinary, relations_of
from pytest_sparsity.checking.draw import laid_out
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.record import values_of
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.kernels.contract import REFUSALS
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands

#: Bytes of the widest load that a kernel may choose by the address of an operand.
_VECTOR = 16


def layouts_cases(kernel: Kernel) -> Space:
    """Every layout as often as the others."""
    return ordinary(kernel, layout=record(kernel.op).layouts)


def layouts(trial: Trial) -> float:
    """Right with one operand at another address than the others have, as seeds have it in turn."""
    inputs = trial.inputs()
    moved = _elsewhere(inputs, trial.case.seed)
    return trial.verify(inputs, trial.guarded(moved))


def _elsewhere(inputs: Any, turn: int) -> Any:
    """``inputs`` with one of the tensors at an address that another vector load would need."""
    tensors = {name: tensor for name, tensor in operands.tensors(inputs).items() if tensor.numel()}
    places = [
        (name, elements)
        for name, tensor in tensors.items()
        for elements in range(_VECTOR // tensor.element_size())
    ]
    if not places:
        return inputs
    name, elements = places[turn % len(places)]
    tensor = tensors[name]
    offset = int(tensor.storage_offset()) + elements
    return operands.with_tensors(inputs, {name: laid_out(tensor, tensor.stride(), offset)})


def ends_cases(kernel: Kernel) -> Space:
    """Cases with all channels active, and with none."""
    ends = [name for name in ("all", "none", "zeros") if name in record(kernel.op).patterns]
    return ordinary(kernel, pattern=ends, level=(0.0,), **(relations_of(kernel).ends or {}))


def ends(trial: Trial) -> float:
    """Within the bound, and without active channels exactly the bias."""
    inputs = trial.inputs()
    output = trial.guarded(inputs)
    used = trial.verify(inputs, output)
    op = trial.kernel.definition
    # Some of a pattern's inactive channels are equal to the threshold.
    kept = trial.kernel.contract.keeps == ">=" and any(
        bool(mask.any()) for mask in op.must_read(inputs).values()
    )
    if trial.case.pattern == "none" and op.bound is not None and not kept:
        bias = getattr(inputs, "bias", None)
        if bias is not None:
            adds = trial.kernel.precision(bias.dtype).adds.get("bias", bias.dtype)
            bias = bias.to(adds).to(bias.dtype)
        expected = tuple(
            torch.zeros_like(each) if bias is None else bias.expand(each.shape) for each in output
        )
        exactly(output, expected, "is not exactly the bias, or zero, without active channels")
    return used


def batch_cases(kernel: Kernel) -> Space:
    """All numbers of rows, also beyond what the kernel takes: it must say so."""
    return ordinary(kernel, rows=tuple(dict.fromkeys(record(kernel.op).space.get("rows", (1,)))))


def batch(trial: Trial) -> float:
    """Rows are right together and alone."""
    inputs = trial.inputs()
    try:
        output = trial.guarded(inputs)
    except CheckFailure as finding:
        refused = isinstance(finding.__cause__, REFUSALS)
        if trial.case.rows > trial.kernel.max_rows and refused:
            return 0.0
        raise
    used = trial.verify(inputs, output, f"is off with {trial.case.rows} rows at once")
    if trial.case.rows == 1:
        return used
    op = trial.kernel.definition
    named = relations_of(trial.kernel).rows
    having = named if isinstance(named, tuple) else (op.leading,)
    tensors = operands.tensors(inputs)
    alone = [
        operands.with_tensors(inputs, {name: tensors[name][row, None] for name in having})
        for row in range(len(op.lead(inputs)))
    ]
    return max(
        used,
        *(
            trial.verify(one, trial.guarded(one), f"is off with row {row} by itself")
            for row, one in enumerate(alone)
        ),
    )


def contract(trial: Trial) -> float:
    """Beyond its contract a kernel refuses, or is right; here and everywhere it is right."""
    inputs = trial.inputs()
    taken = trial.kernel.contract.holds(values_of(trial.case))
    try:
        output = trial.guarded(inputs)
    except CheckFailure as finding:
        if not taken and isinstance(finding.__cause__, REFUSALS):
            return 0.0
        raise
    return trial.verify(inputs, output, "is off" if taken else "is off, and does not refuse,")
