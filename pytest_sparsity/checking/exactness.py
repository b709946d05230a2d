"""The check ``exact``, and when sums are exact: where no tolerance hides a lost term."""

from __future__ import annotations

import torch

from pytest_sparsity.checking.check import finite, ordinary, relations_of
from pytest_sparsity.checking.settling import in_order
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.ops import as_tuple


def _sums_in_float32(kernel: Kernel) -> tuple[str, ...]:
    """Dtypes of x with which sums of small integers are exact in the kernel."""
    wide = (torch.float32, torch.float64)
    return tuple(
        dtype
        for dtype in kernel.dtypes
        for precision in (kernel.precision(getattr(torch, dtype)),)
        if precision.accumulate in wide and precision.intermediate in wide
    )


def exact_sums(kernel: Kernel) -> bool:
    """Whether sums of the op's integers are exact in the kernel, for some dtype."""
    declared = relations_of(kernel).integers is not None
    return declared and kernel.definition.bound is not None and bool(_sums_in_float32(kernel))


def integers(kernel: Kernel) -> Space:
    """Cases of integers whose sums are exact in the kernel."""
    own = relations_of(kernel).integers or {}
    return ordinary(kernel, values=("integer",), dtype=_sums_in_float32(kernel), **own)


def scaling_cases(kernel: Kernel) -> Space:
    """Cases without special numbers, in dtypes in which scaling is exact."""
    return ordinary(
        kernel,
        values=("normal", "small"),
        pattern=[p for p in finite(kernel) if p != "zeros"],
        dtype=_sums_in_float32(kernel),
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
            pair = (in_order(output), in_order(expected))
        exactly(pair[:1], pair[1:], what)
    return 0.0
