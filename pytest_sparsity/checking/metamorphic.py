"""What must hold between two runs of a kernel: exact relations that need no tolerance.

The operands of the second run are a changed copy, in memory laid out like the first's: another
layout may be summed in another order.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.finding import compare
from pytest_sparsity.checking.trial import Trial, exactly
from pytest_sparsity.reference import operands

#: Powers of two by which operands are scaled, up or down.
_POWER = 3
_MLPS = ("sparse_swiglu", "hot_cold_mlp")


def scaling(trial: Trial) -> float:
    """x, t and b times a power of two give y times it; an MLP's down times it does."""
    # Down's small weights lose digits if they get smaller.
    up = trial.kernel.op in _MLPS or trial.case.seed % 2
    power = _POWER if up else -_POWER
    factor = 2.0**power
    before, after = _without_subnormals(trial.inputs()), _without_subnormals(trial.inputs())
    if trial.kernel.op in _MLPS:
        after.down.mul_(factor)
    else:
        after = _scaled(after, factor)
    output, scaled = trial.guarded(before), trial.guarded(after)
    # Numbers below the normal range have fewer digits.
    normal = torch.minimum(output.abs(), scaled.abs()) >= torch.finfo(output.dtype).smallest_normal
    expected = torch.where(normal, output.double() * factor, scaled.double())
    return exactly(
        scaled, expected, f"does not give 2^{power} times the result for operands 2^{power} times"
    )


def permutation(trial: Trial) -> float:
    """The order of the channels does not matter."""
    inputs, permuted = trial.inputs(), trial.inputs()
    generator = torch.Generator().manual_seed(trial.case.seed)
    group = _granularity(inputs)
    groups = torch.randperm(inputs.x.shape[1] // group, generator=generator)
    channels = (groups[:, None] * group + torch.arange(group)).flatten()
    channels, groups = channels.to(inputs.x.device), groups.to(inputs.x.device)
    for name, tensor in operands.tensors(permuted).items():
        if name in ("x", "weight", "gate", "up"):
            tensor.copy_(tensor[:, channels])
        elif name == "indices":
            tensor.copy_(channels.argsort()[tensor.long()].sort().values)
        elif name in ("weight.values", "weight.indices"):
            tensor.copy_(tensor[groups])
        elif name == "weight.payload" or (name == "weight.scales" and tensor.ndim == 2):
            tensor.copy_(tensor[channels])
    return exactly(
        trial.guarded(permuted),
        trial.guarded(inputs),
        "gives another result for the same channels in another order",
    )


def splitting(trial: Trial) -> float:
    """The results of two parts of the channels, or of an MLP's neurons, add up to that of all."""
    inputs = trial.inputs()
    mlp = trial.kernel.op in _MLPS
    width = inputs.up.shape[0] if mlp else inputs.x.shape[1]
    group = 1 if mlp else _granularity(inputs)
    if width < 2 * group:
        return 0.0
    cut = group * (1 + trial.case.seed % (width // group - 1))
    part = _neurons if mlp else _channels
    whole = trial.guarded(inputs).double()
    parts = [
        trial.guarded(part(inputs, start, stop)).double()
        for start, stop in ((0, cut), (cut, width))
    ]
    # Three results were rounded, unless all are integers that the dtype represents.  The first that
    # it does not may have been rounded to 2 / eps.
    eps = torch.finfo(inputs.x.dtype).eps
    sizes = torch.stack([whole, *parts]).abs()
    rounding = torch.where(sizes.amax(0) < 2 / eps, 0.0, eps / 2 * sizes.sum(0))
    finite = sizes.isfinite().all(0)
    compare(
        torch.where(finite, whole, 0.0),
        torch.where(finite, parts[0] + parts[1], 0.0),
        rounding,
        f"gives results for the {'neurons' if mlp else 'channels'} before and from {cut} that do "
        "not add up to the result of all",
    )
    return 0.0


def _scaled(inputs: Any, factor: float) -> Any:
    """``inputs`` with x, thresholds and bias times ``factor``."""
    inputs.x.mul_(factor)
    if inputs.bias is not None:
        inputs.bias.mul_(factor)
    if hasattr(inputs, "thresholds"):
        return dataclasses.replace(inputs, thresholds=tuple(t * factor for t in inputs.thresholds))
    if hasattr(inputs, "threshold"):
        return dataclasses.replace(inputs, threshold=inputs.threshold * factor)
    return inputs


def _without_subnormals(inputs: Any) -> Any:
    """``inputs`` with a bias of numbers that keep all digits when scaled."""
    bias = getattr(inputs, "bias", None)
    if bias is not None:
        smallest = torch.finfo(bias.dtype).smallest_normal * 2**_POWER
        bias.masked_fill_(bias.abs() < smallest, 0.0)
    return inputs


def _granularity(inputs: Any) -> int:
    """How many channels of x belong together: the group of n:m weights."""
    return getattr(getattr(inputs, "weight", None), "m", 1)


def _channels(inputs: Any, start: int, stop: int) -> Any:
    """A linear op over some of the channels of x; the bias belongs to the first of them."""
    group = _granularity(inputs)
    new: dict[str, Tensor] = {}
    for name, tensor in operands.tensors(inputs).items():
        if name in ("x", "weight"):
            new[name] = tensor[:, start:stop]
        elif name == "indices":
            new[name] = tensor[(tensor >= start) & (tensor < stop)] - start
        elif name in ("weight.values", "weight.indices"):
            new[name] = tensor[start // group : stop // group]
        elif name == "weight.payload" or (name == "weight.scales" and tensor.ndim == 2):
            new[name] = tensor[start:stop]
    part = operands.with_tensors(inputs, new)
    return part if start == 0 else dataclasses.replace(part, bias=None)


def _neurons(inputs: Any, start: int, stop: int) -> Any:
    """An MLP over some of its neurons."""
    parts = {"up": inputs.up[start:stop], "down": inputs.down[:, start:stop]}
    if inputs.gate is not None:
        parts["gate"] = inputs.gate[start:stop]
    if not hasattr(inputs, "cold"):
        return dataclasses.replace(inputs, **parts)
    cold = inputs.cold[(inputs.cold >= start) & (inputs.cold < stop)] - start
    hot = min(max(inputs.hot - start, 0), stop - start)
    return dataclasses.replace(inputs, **parts, hot=hot, cold=cold)
