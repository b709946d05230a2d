"""Holds the record of an op of others against its own definition, before a kernel is held to it.

A relation that the definition does not fulfil would be an alarm on every right kernel.  So the
definition itself, in float64 rounded once, and in float32, goes through the checks as a kernel
does; what it fails is a mistake in the record.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.record import OpRecord, one_at_a_time
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial, same_bits
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.narrowed import narrowed
from pytest_sparsity.reference.operands import tensors
from pytest_sparsity.reference.ops import Op, as_tuple

#: Cases of every check that the definition goes through.
_CASES = 6


def check_record(op: str) -> None:
    """Hold the record of ``op`` against its definition, once per process and record.

    Raises:
        SparsityError: they contradict each other.
    """
    own = record(op)
    if own.foreign:
        _hold(own)


@cache
def _hold(own: OpRecord) -> None:
    try:
        _check(own)
    except SparsityError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise SparsityError(
            f"@sparse_op: the record of {own.op.name} cannot be used: "
            f"{type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno}); see its draw, definition, needed, bound and "
            "relations"
        ) from error


def _check(own: OpRecord) -> None:
    op = own.op.name
    rounded = _as_kernel(own, _rounded)
    for case in one_at_a_time(own, rounded)[:_CASES]:
        _check_operands(own, case)
        _check_bound(own, rounded, case)
    _check_options(own)
    for name, kernel in (("definition", rounded), ("float32 run", _as_kernel(own, _in_float32))):
        for check, case in _checks(own, kernel):
            try:
                check(Trial(kernel, case))
            except CheckFailure as failure:
                raise SparsityError(
                    f"@sparse_op: the record of {op} contradicts itself: its own {name} "
                    f"{failure}, in the case {case}; mend what is declared, or give a bound of "
                    "your own (bound=...)"
                ) from failure


def _checks(own: OpRecord, kernel: Kernel) -> Iterator[tuple[Callable[[Trial], float], Case]]:
    """The checks that apply to the definition, each with some cases."""
    from pytest_sparsity.checking.checks import CHECKS

    for name in ("fuzz", "exact", "scaling", "permutation", "splitting", "ends", "batch", "unread"):
        check = CHECKS[name]
        if not check.applies(kernel):
            continue
        cases = check.cases(kernel)
        if isinstance(cases, Space):
            cases = [own.case_of(_spread(cases, number)) for number in range(_CASES)]
        for case in cases[:_CASES]:
            yield check.run, case


def _spread(space: Space, number: int) -> dict[str, Any]:
    """Values from all over the space; small sizes."""
    lot = torch.Generator().manual_seed(number)
    drawn = {}
    for name, among in space.choices.items():
        few = among[: max(1, len(among) // 4)] if len(among) > 64 else among
        drawn[name] = few[int(torch.randint(len(few), (1,), generator=lot))]
    return drawn


def _check_operands(own: OpRecord, case: Case) -> None:
    """Operands follow from the case alone, and masks of weights fit the weights."""
    try:
        first, again = own.build(case), own.build(case)
    except (ValueError, TypeError) as error:
        raise SparsityError(
            f"@sparse_op: {own.op.name} cannot have the operands that draw gives for the case "
            f"{case}: {error}"
        ) from error
    before, after = tensors(first), tensors(again)
    if not isinstance(getattr(first, own.op.leading), Tensor):
        raise SparsityError(
            f"@sparse_op: the operand {own.op.leading} of {own.op.name} is no tensor; name one "
            "whose dtype and device the result has, with leading="
        )
    for name, tensor in before.items():
        if not same_bits((tensor,), (after[name],)):
            raise SparsityError(
                f"@sparse_op: draw of {own.op.name} gives another {name} for the same case "
                f"{case}; take everything random from draw.generator"
            )
    for name, mask in own.op.must_read(first).items():
        if name not in before:
            raise SparsityError(
                f"@sparse_op: needed of {own.op.name} tells of {name!r}, which is no tensor of it; "
                f"it has {', '.join(before)}"
            )
        if mask.shape != before[name].shape or mask.dtype != torch.bool:
            raise SparsityError(
                f"@sparse_op: needed of {own.op.name} gives {mask.dtype} {tuple(mask.shape)} for "
                f"{name}, which is {tuple(before[name].shape)}; give bool of its shape"
            )
    count = len(as_tuple(own.op.define(first)))
    if count != len(own.op.outputs):
        raise SparsityError(
            f"@sparse_op: the definition of {own.op.name} gives {count} tensors, and outputs "
            f"names {len(own.op.outputs)}"
        )


def _check_bound(own: OpRecord, kernel: Kernel, case: Case) -> None:
    """A bound is of the result's shape, and finite where the result is: else nothing is checked."""
    op = own.op
    if op.bound is None:
        return
    inputs = own.build(case)
    dtype = op.lead(inputs).dtype
    precision = kernel.precision(dtype if dtype.is_floating_point else torch.float32)
    results = zip(
        as_tuple(op.define(inputs)), as_tuple(op.bound(inputs, precision)), op.outputs, strict=True
    )
    for reference, bound, output in results:
        if output.kind != "numbers":
            continue
        if bound.shape != reference.shape:
            raise SparsityError(
                f"@sparse_op: the bound of {op.name} has shape {tuple(bound.shape)} for "
                f"{output.name}, which is {tuple(reference.shape)}, in the case {case}"
            )
        if bool((~bound.isfinite() & reference.isfinite()).any()):
            raise SparsityError(
                f"@sparse_op: the bound of {op.name} is not finite where {output.name} is, in the "
                f"case {case}: nothing would be checked there; give one that is (bound=...)"
            )


def _check_options(own: OpRecord) -> None:
    """Every parameter changes something, with some values of the others."""
    space = Space(own, own.space)
    ends = [{name: among[place] for name, among in own.space.items()} for place in (0, -1)]
    settings = [*ends, *(_spread(space, number) for number in range(_CASES))]
    for name, among in own.space.items():
        values = list(dict.fromkeys(among))[:_CASES]
        if name in ("dtype", "seed") or len(values) < 2:  # every case has them
            continue
        if not any(_matters(own, setting, name, values) for setting in settings):
            raise SparsityError(
                f"@sparse_op: the space of {own.op.name} has {name!r}, which draw never reads; "
                "use it, or leave it out"
            )


def _matters(own: OpRecord, setting: Mapping[str, Any], name: str, values: Sequence[Any]) -> bool:
    """Whether operands differ with the value of a parameter, the others being as given."""
    first, *others = (_looks(own, own.case_of({**setting, name: value})) for value in values)
    return not all(_equal(first, other) for other in others)


def _looks(own: OpRecord, case: Case) -> dict[str, Any]:
    inputs = own.build(case)
    plain = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
    found: dict[str, Any] = {n: v for n, v in plain.items() if not isinstance(v, Tensor)}
    for name, tensor in tensors(inputs).items():
        found |= {name: tensor, f"{name} in memory": (tensor.stride(), tensor.storage_offset())}
    return found


def _equal(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return set(one) == set(two) and all(
        same_bits((value,), (two[name],)) if isinstance(value, Tensor) else _same(value, two[name])
        for name, value in one.items()
    )


def _same(one: Any, two: Any) -> bool:
    """Whether values that are no tensors look the same."""
    return type(one) is type(two) and repr(one) == repr(two)


def _as_kernel(own: OpRecord, compute: Callable[[Op, Any], tuple[Tensor, ...]]) -> Kernel:
    """The definition as a kernel of its op."""
    op = own.op

    def call(**operands: Any) -> Any:
        found = compute(op, op.inputs(**operands))
        return found[0] if len(found) == 1 else found

    return Kernel(
        op=op.name,
        name="definition",
        backend="definition",
        call=call,
        dtypes=tuple(dict.fromkeys(own.space["dtype"])),
        max_rows=max(own.space.get("rows", (1,))),
        module=op.module,
        file="",
    )


def _rounded(op: Op, inputs: Any) -> tuple[Tensor, ...]:
    """The definition's result, rounded once."""
    found = as_tuple(op.define(inputs))
    return tuple(t.to(d) for t, d in zip(found, op.dtypes(inputs), strict=True))


def _in_float32(op: Op, inputs: Any) -> tuple[Tensor, ...]:
    """The definition computed in float32, rounded once."""
    with narrowed(torch.float32):
        found = as_tuple(op.define(inputs))
    return tuple(t.to(d) for t, d in zip(found, op.dtypes(inputs), strict=True))
