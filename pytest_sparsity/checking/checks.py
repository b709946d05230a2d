"""The table of checks: what each proves, for which kernels, with which cases."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import guards, metamorphic, protect, static, work
from pytest_sparsity.checking.activations import SPECIAL
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.cases import NOTABLE, sizes
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.record import values_of
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.checking.space import Space, space
from pytest_sparsity.checking.trial import Tensors, Trial, exactly, in_order, same_bits
from pytest_sparsity.kernels.contract import REFUSALS
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.ops import as_tuple

#: How often a kernel runs on the same operands.
_RUNS = 20


@dataclass(frozen=True)
class Check:
    """One property that kernels are held to.

    Attributes:
        name: as it is asked for.
        proves: what is known of a kernel that passes.
        run: does it for one case; the largest share of the error bound that was taken, 0 where
            none is involved.  Raises CheckFailure.
        cases: those it is for, a space to draw from or a list, simplest first.
        condition: which kernels it is for, in words.
        applies: whether a kernel is one of them.
        cost: of a case, in ordinary cases: that many fewer are drawn.
        values: what the weights of its cases must be; empty if that is open.
    """

    name: str
    proves: str
    run: Callable[[Trial], float]
    cases: Callable[[Kernel], Space | Sequence[Case]]
    condition: str = "any kernel"
    applies: Callable[[Kernel], bool] = lambda kernel: True
    cost: int = 1
    values: str = ""


def _any(kernel: Kernel) -> Space:
    return space(kernel.op, kernel)


def _finite(kernel: Kernel) -> tuple[str, ...]:
    """Patterns without anything but ordinary numbers."""
    return tuple(p for p in record(kernel.op).patterns if p not in SPECIAL)


def _ordinary(kernel: Kernel, **fixed: Any) -> Space:
    """The op's space without special numbers, and with other values of parameters that it has."""
    own = record(kernel.op).space
    wanted = {"pattern": _finite(kernel), **fixed}
    return space(kernel.op, kernel, **{name: v for name, v in wanted.items() if name in own})


def _relations(kernel: Kernel) -> Relations:
    return record(kernel.op).relations


# Values, within the bound


def _layouts(kernel: Kernel) -> Space:
    return _ordinary(kernel, layout=record(kernel.op).layouts)


def _ends_cases(kernel: Kernel) -> Space:
    ends = [name for name in ("all", "none", "zeros") if name in record(kernel.op).patterns]
    return _ordinary(kernel, pattern=ends, level=(0.0,), **(_relations(kernel).ends or {}))


def _ends(trial: Trial) -> float:
    inputs = trial.inputs()
    output = trial.guarded(inputs)
    used = trial.verify(inputs, output)
    if trial.case.pattern == "none" and trial.kernel.definition.bound is not None:
        bias = getattr(inputs, "bias", None)
        expected = tuple(
            torch.zeros_like(each) if bias is None else bias.expand(each.shape) for each in output
        )
        exactly(output, expected, "is not exactly the bias, or zero, without active channels")
    return used


def _batch_cases(kernel: Kernel) -> Space:
    # Beyond what it takes as well: it must say so.
    return _ordinary(kernel, rows=tuple(dict.fromkeys(record(kernel.op).space.get("rows", (1,)))))


def _batch(trial: Trial) -> float:
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
    named = _relations(trial.kernel).rows
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


def _contract(trial: Trial) -> float:
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


# Values, exactly


def _sums_in_float32(kernel: Kernel) -> tuple[str, ...]:
    """Dtypes of x with which sums of small integers are exact in the kernel."""
    wide = (torch.float32, torch.float64)
    return tuple(
        dtype
        for dtype in kernel.dtypes
        for precision in (kernel.precision(getattr(torch, dtype)),)
        if precision.accumulate in wide and precision.intermediate in wide
    )


def _exact_sums(kernel: Kernel) -> bool:
    integers = _relations(kernel).integers is not None
    return integers and kernel.definition.bound is not None and bool(_sums_in_float32(kernel))


def _integers(kernel: Kernel) -> Space:
    own = _relations(kernel).integers or {}
    return _ordinary(kernel, values=("integer",), dtype=_sums_in_float32(kernel), **own)


def _scaling_cases(kernel: Kernel) -> Space:
    return _ordinary(
        kernel,
        values=("normal", "small"),
        pattern=[p for p in _finite(kernel) if p != "zeros"],
        dtype=_sums_in_float32(kernel),
    )


def _exact(trial: Trial) -> float:
    inputs = trial.inputs()
    op = trial.kernel.definition
    what = "is not exact, though every sum of these integers is exact in float32,"
    results = zip(trial.guarded(inputs), as_tuple(op.define(inputs)), op.outputs, strict=True)
    for output, expected, declared in results:
        pair = (output, expected)
        if declared.kind == "set":
            pair = (in_order(output), in_order(expected))
        exactly(pair[:1], pair[1:], what)
    return 0.0


# Behaviour


def _repeat_cases(kernel: Kernel) -> Space:
    # Another order of summation shows where there is much to sum.
    own = record(kernel.op)
    among = [name for name in ("random", "all", "large") if name in own.patterns]
    sizes = [size for size in NOTABLE if size > 64]
    wide = {name: sizes for name in ("k", "n") if len(set(own.space.get(name, ()))) > 1}
    return _ordinary(kernel, pattern=among, level=(0.0, 0.5), values=("normal",), **wide)


def _repeat(trial: Trial) -> float:
    inputs = trial.inputs()
    first = tuple(each.clone() for each in trial.call(inputs))
    used = trial.verify(inputs, first)
    for run in range(1, _RUNS):
        used = max(used, _again(trial, inputs, first, f"in run {run + 1} of {_RUNS}"))
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            used = max(used, _again(trial, inputs, first, f"with {count} thread(s)"))
    finally:
        torch.set_num_threads(threads)
    return used


def _again(trial: Trial, inputs: Any, first: Tensors, when: str) -> float:
    output = trial.call(inputs)
    if trial.kernel.deterministic and not same_bits(output, first):
        exactly(output, first, f"is declared deterministic and gives another result {when}")
        raise CheckFailure(
            f"is declared deterministic and gives another sign of zero or NaN {when}"
        )
    return trial.verify(inputs, output, f"is off {when}")


def _inputs_cases(kernel: Kernel) -> Space:
    # With nothing or all to do, a kernel may take a way of its own.
    own = record(kernel.op)
    among = [p for p in ("random", "all", "none", "zeros") if p in own.patterns]
    rows = (1, min(kernel.max_rows, max(own.space.get("rows", (1,)))))
    return _ordinary(kernel, pattern=among or own.patterns, rows=rows)


def _inputs(trial: Trial) -> float:
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


# Memory


def _bounds_cases(kernel: Kernel) -> Space:
    # TEAL reads past the end only if the last channel is active.
    own = record(kernel.op)
    among = [p for p in ("last", "all", "random", "first") if p in own.patterns]
    return _ordinary(kernel, pattern=among or own.patterns)


def _bounds(trial: Trial) -> float:
    inputs = trial.inputs()
    used = trial.verify(inputs, trial.guarded(inputs), "is off with NaN around its operands")
    if trial.disposable and trial.device == "cpu":
        for side in ("begin", "end"):
            fenced = protect.fenced(inputs, side)
            used = max(used, trial.verify(inputs, trial.call(fenced)))
    return used


def _unread_cases(kernel: Kernel) -> Space:
    # Weights of a channel that fill pages can be made inaccessible; two bytes each, or less.
    page = mmap.PAGESIZE // 2
    return _ordinary(kernel, **{"k": sizes(192)} | dict(record(kernel.op).paged(page)))


def _unread(trial: Trial) -> float:
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


_FLOAT = "kernels that sum in float32 or better, of ops that declare the relation"

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "edges",
            "right in every case in which published kernels have been wrong",
            Trial.measure,
            lambda kernel: record(kernel.op).edge_cases(kernel),
        ),
        Check(
            "fuzz",
            "within the error bound of the float64 definition, element by element, at any shape",
            Trial.measure,
            _any,
        ),
        Check(
            "exact",
            "bit-equal to the definition where float32 sums are exact: no term lost or doubled",
            _exact,
            _integers,
            _FLOAT,
            _exact_sums,
            values="integer",
        ),
        Check(
            "scaling",
            "scaling by a power of two scales the result exactly: no hidden constant",
            metamorphic.scaling,
            _scaling_cases,
            f"{_FLOAT}, deterministically",
            lambda kernel: (
                _exact_sums(kernel)
                and kernel.deterministic
                and _relations(kernel).scaled is not None
            ),
            cost=2,
        ),
        Check(
            "permutation",
            "the order of channels does not matter",
            metamorphic.permutation,
            _integers,
            _FLOAT,
            lambda kernel: _exact_sums(kernel) and _relations(kernel).channels is not None,
            values="integer",
            cost=3,
        ),
        Check(
            "splitting",
            "results of two parts of the channels add up to the result of all",
            metamorphic.splitting,
            _integers,
            _FLOAT,
            lambda kernel: _exact_sums(kernel) and _relations(kernel).parts is not None,
            values="integer",
            cost=3,
        ),
        Check(
            "ends",
            "with all channels active it is the dense layer, with none exactly the bias",
            _ends,
            _ends_cases,
            "kernels of ops whose results without active channels are known",
            lambda kernel: _relations(kernel).ends is not None,
        ),
        Check(
            "repeat",
            f"{_RUNS} runs and 1 or 2 threads give the same bits, or stay within the bound",
            _repeat,
            _repeat_cases,
            cost=_RUNS,
        ),
        Check(
            "layouts",
            "right for every layout of the weights in memory, every pitch and offset",
            Trial.measure,
            _layouts,
            "kernels of ops whose operands have several layouts",
            lambda kernel: len(record(kernel.op).layouts) > 1,
        ),
        Check(
            "batch",
            "rows with masks of their own are right together and alone; too many are refused",
            _batch,
            _batch_cases,
            "kernels of ops whose rows do not see each other",
            lambda kernel: bool(_relations(kernel).rows),
            cost=4,
        ),
        Check(
            "contract",
            "operands beyond what the kernel says it takes are refused, or the result is right",
            _contract,
            _ordinary,
            "kernels that declare a contract",
            lambda kernel: bool(kernel.contract),
        ),
        Check(
            "inputs",
            "operands are left as they are, and every result is a new tensor",
            _inputs,
            _inputs_cases,
            cost=3,
        ),
        Check(
            "bounds",
            "no memory outside of operands and results is used",
            _bounds,
            _bounds_cases,
            cost=3,
        ),
        Check(
            "unread",
            "weights of skipped channels are not read",
            _unread,
            _unread_cases,
            "kernels declared to skip, of ops that say what must be read",
            lambda kernel: kernel.skips and kernel.definition.needed is not None,
            cost=5,
        ),
        Check(
            "work",
            "loads exactly the weights that are needed, once each, and nothing outside of tensors",
            work.run,
            lambda kernel: record(kernel.op).counted_cases(kernel),
            "Triton kernels declared to skip",
            lambda kernel: kernel.skips and kernel.backend == "triton",
        ),
        Check(
            "compile",
            "compiles for sm_80, sm_90 and sm_100 without spills, with 128-bit loads of weights",
            static.run,
            lambda kernel: record(kernel.op).compiled_cases(kernel),
            "Triton kernels, and where nvcc is CUDA kernels of modules that tell their resources",
            lambda kernel: kernel.backend in ("triton", "cuda") and static.applies(kernel),
        ),
    )
}
