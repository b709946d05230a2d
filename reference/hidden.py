"""Stages of an MLP: float64 values together with how far a kernel's may be from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pytest_sparsity.reference.activation import activate, activation_error
from pytest_sparsity.reference.precision import Precision, output_bound
from pytest_sparsity.reference.products import gathered, summed

#: As in ``precision.sum_bound``: slack over the root of the sum of squares of many errors.
_SLACK = 4.0


class Stage(NamedTuple):
    """Exact values and the largest error of computed ones, float64 of one shape."""

    value: Tensor
    error: Tensor


def dense(x: Tensor, weight: Tensor, precision: Precision) -> Stage:
    """The product x @ weight.T, summed and stored by a kernel."""
    x, weight = x.double(), weight.double()
    terms = torch.tensor(x.shape[1] + 1, device=x.device)
    value, magnitude = x @ weight.T, x.abs() @ weight.abs().T
    return _stored(value, summed(magnitude, value.abs(), terms, precision), precision)


def activated(name: str, stage: Stage, precision: Precision) -> Stage:
    """The activation of computed values."""
    error = activation_error(name, stage.value, stage.error, precision.accumulate)
    return _stored(activate(name, stage.value), error, precision)


def times(left: Stage, right: Stage, precision: Precision) -> Stage:
    """The element-wise product of computed values."""
    error = (
        left.value.abs() * right.error + left.error * right.value.abs() + left.error * right.error
    )
    return _stored(left.value * right.value, error, precision)


def down_error(hidden: Stage, down: Tensor, keep: Tensor, precision: Precision) -> Tensor:
    """How far the sum over kept neurons of down and computed hidden values may be off.

    The errors of many neurons are as often up as down, and add up like the root of the sum of
    their squares; unless neurons are alike: then the whole result is off by one factor, the mean
    relative error.  Both together, or the sum of all errors where that is less.

    Args:
        hidden: [rows, I].
        down: [N, I].
        keep: bool [rows, I].
        precision: of the products with down.

    Returns:
        float64 [rows, N].
    """
    output = gathered(hidden.value, down, keep)
    magnitude = gathered(hidden.value.abs(), down.abs(), keep)
    total = gathered(hidden.error, down.abs(), keep)
    random = _SLACK * gathered(hidden.error**2, down.double() ** 2, keep).sqrt()
    alike = (output.abs() / magnitude).nan_to_num(nan=0.0) * total
    terms = keep.sum(1, keepdim=True) + 1
    rounding = summed(magnitude + total, output.abs(), terms, precision)
    return torch.minimum(total, random + alike) + rounding


def result_bound(reference: Tensor, error: Tensor, precision: Precision) -> Tensor:
    """How far a kernel's result may be off if what it rounds is off by ``error``: float64.

    Infinite where it cannot be said, beside what is infinite or NaN itself.
    """
    bound = error + output_bound(reference.abs() + error, precision.output)
    return bound.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _stored(value: Tensor, error: Tensor, precision: Precision) -> Stage:
    """Rounding to the intermediate dtype; zeros stay zeros."""
    info = torch.finfo(precision.intermediate)
    size = value.abs() + error
    rounding = info.eps / 2 * size + info.smallest_normal * info.eps
    return Stage(value, error + torch.where(size == 0, 0.0, rounding))
