"""The check ``exact``, and when sums are exact: where no tolerance hides a lost term."""

from __future__ import annotations

import torch

from pytest_sparsity.checking.check import finite, ordinary, relations_of
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.settling import in_order
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.ops import as_tuple

_WIDE = (torch.float32, torch.float64)


def _sums_in_float32(kernel: Kernel) -> tuple[str, ...]:
    """Dtypes of x with which sums of small integers are exact in the kernel."""
    found = []
    if kernel.products != "operand":
        return ()
    for dtype in kernel.dtypes:
        precision = kernel.precision(getattr(torch, dtype))
        several = [precision, *map(precision.of, precision.outside)]
        if all(one.accumulate in _WIDE and one.intermediate in _WIDE for one in several):
            found.append(dtype)
    return tuple(found)


def _without_additions(kernel: Kernel) -> dict[str, tuple[bool]] | None:
    """Values of parameters at which nothing is added in a dtype of its own; None if there are none.

    A sum that is rounded before and after is not the definition's, rounded once.
    """
    adds = kernel.contract.adds
    if not adds:
        return {}
    biases = kernel.contract.only.get("bias", record(kernel.op).space.get("bias", ()))
    return {"bias": (False,)} if set(adds) == {"bias"} and False in biases else None


def exact_sums(kernel: Kernel) -> bool:
    """Whether sums of the op's integers are exact in the kernel, for some dtype."""
    declared = relations_of(kernel).integers is not None and kernel.definition.bound is not None
    added = _without_additions(kernel) is not None
    return declared and added and bool(_sums_in_float32(kernel))


def integers(kernel: Kernel) -> Space:
    """Cases of integers whose sums are exact in the kernel."""
    own = dict(relations_of(kernel).integers or {}) | (_without_additions(kernel) or {})
    return ordinary(kernel, values=("integer",), dtype=_sums_in_float32(kernel), **own)


def scaling_cases(kernel: Kernel) -> Space:
    """Cases without special numbers, in dtypes in which scaling is exact."""
    return ordinary(
        kernel,
        values=("normal", "small"),
        pattern=[p for p in finite(kernel) if p != "zeros"],
        dtype=_sums_in_float32(kernel),
        **(_without_additions(kernel) or {}),
    )


def exact(trial: Trial) -> float:
    """The result is the definition's, rounded once."""
    inputs = trial.inputs()
    op = trial.kernel.definition
    what = "is not exact, though every sum of these integers is exact in float32,"
    results = zip(trial.guarded(inputs), as_tuple(op.define(inputs)), op.outputs, strict=True)
    for output, expected, declared in results:
        pair = (output, expected)
        if declared.kind == "set":
            pair = (in_order(output), in_order(expected.to(output.dtype)))
        exactly(pair[:1], pair[1:], what)
    return 0.0
