"""What must hold between two runs of a kernel: exact relations that need no tolerance.

Which ones hold for an op is in its record.  The operands of the second run are a changed copy, in
memory laid out like the first's: another layout may be summed in another order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.failure import CheckFailure, compare
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.kernels.contract import REFUSALS
from pytest_sparsity.reference import operands

#: Powers of two by which operands are scaled, up or down.
_POWER = 3


def _relations(trial: Trial) -> Relations:
    return record(trial.kernel.op).relations


def scaling(trial: Trial) -> float:
    """Operands that are to give a power of two times the result do."""
    relations = _relations(trial)
    assert relations.scaled is not None  # the check is for ops that have it
    power = _POWER if relations.only_up or trial.case.seed % 2 else -_POWER
    factor = 2.0**power
    before, after = _without_subnormals(trial.inputs()), _without_subnormals(trial.inputs())
    after = relations.scaled(after, factor)
    used = 0.0
    for output, scaled in zip(trial.guarded(before), trial.guarded(after), strict=True):
        if not output.is_floating_point():
            used = max(
                used, exactly((scaled,), (output,), "changes with the scale of its operands")
            )
            continue
        # Numbers below the normal range have fewer digits.
        smallest = torch.finfo(output.dtype).smallest_normal
        normal = torch.minimum(output.abs(), scaled.abs()) >= smallest
        expected = torch.where(normal, output.double() * factor, scaled.double())
        what = f"does not give 2^{power} times the result for operands 2^{power} times"
        used = max(used, exactly((scaled,), (expected,), what))
    return used


def permutation(trial: Trial) -> float:
    """The order of the channels does not matter."""
    channels = _relations(trial).channels
    assert channels is not None
    inputs, permuted = trial.inputs(), trial.inputs()
    axes = channels(permuted)
    tensors = operands.tensors(permuted)
    leading = trial.kernel.definition.lead(permuted)
    group = max(axis.channels for axis in axes.values())
    width = leading.shape[axes[trial.kernel.definition.leading].dimension]
    generator = torch.Generator().manual_seed(trial.case.seed)
    groups = torch.randperm(width // group, generator=generator)
    order = (groups[:, None] * group + torch.arange(group)).flatten().to(leading.device)
    groups = groups.to(leading.device)
    for name, axis in axes.items():
        tensor = tensors[name]
        if axis.listed:
            tensor.copy_(order.argsort()[tensor.long()].sort().values)
        else:
            places = groups if axis.channels > 1 else order
            tensor.copy_(tensor.index_select(axis.dimension, places))
    return exactly(
        trial.guarded(permuted),
        trial.guarded(inputs),
        "gives another result for the same channels in another order",
    )


def splitting(trial: Trial) -> float:
    """The results of two parts add up to that of all."""
    parts = _relations(trial).parts
    assert parts is not None
    inputs, contract = trial.inputs(), trial.kernel.contract
    width = parts.width(inputs)
    group = math.lcm(parts.group(inputs), contract.multiples.get(parts.size, 1))
    if width < 2 * group:
        return 0.0
    cut = group * (1 + trial.case.seed % (width // group - 1))
    results = [trial.guarded(inputs)]
    try:
        results += [
            trial.guarded(part)
            for part in (parts.part(inputs, 0, cut), parts.part(inputs, cut, width))
        ]
    except CheckFailure as finding:
        if parts.size in contract.only and isinstance(finding.__cause__, REFUSALS):
            return 0.0  # the sizes that it takes do not add up
        raise
    of = ("all", f"those before {cut}", f"those from {cut}")
    for which, result in zip(of, results, strict=True):
        undefined = sum(int(each.isnan().sum()) for each in result)
        if undefined:
            raise CheckFailure(f"gives NaN at {undefined} elements for {parts.what}: {which}")
    for three in zip(*results, strict=True):
        _check_sum(
            three,
            f"gives results for the {parts.what} before and from {cut} that do not add up to the "
            "result of all",
        )
    return 0.0


def _check_sum(results: tuple[Tensor, ...], what: str) -> None:
    """The first of three results is the sum of the others.

    Each was rounded, unless all are integers that the dtype represents.  The first that it does
    not may have been rounded to 2 / eps.
    """
    eps = torch.finfo(results[0].dtype).eps
    whole, first, second = (result.double() for result in results)
    sizes = torch.stack([whole, first, second]).abs()
    rounding = torch.where(sizes.amax(0) < 2 / eps, 0.0, eps / 2 * sizes.sum(0))
    finite = sizes.isfinite().all(0)
    compare(
        torch.where(finite, whole, 0.0), torch.where(finite, first + second, 0.0), rounding, what
    )


def _without_subnormals(inputs: Any) -> Any:
    """``inputs`` with a bias of numbers that keep all digits when scaled."""
    bias = getattr(inputs, "bias", None)
    if bias is not None:
        smallest = torch.finfo(bias.dtype).smallest_normal * 2**_POWER
        bias.masked_fill_(bias.abs() < smallest, 0.0)
    return inputs
