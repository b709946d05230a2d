"""Products of activations with the weights of their active channels, and what rounding costs."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.reference.precision import Precision, output_bound, sum_bound


def gathered(x: Tensor, weight: Tensor, keep: Tensor) -> Tensor:
    """Row by row x @ weight.T over the row's kept channels only: float64 [rows, N].

    Gathered and not masked: 0 times the NaN of a weight that must not be read is NaN.

    Args:
        x: [rows, K].
        weight: [N, K].
        keep: bool [rows, K].
    """
    x, weight = x.double(), weight.double()
    output = x.new_zeros(x.shape[0], weight.shape[0])
    for row, kept in enumerate(keep):
        output[row] = weight[:, kept] @ x[row, kept]
    return output


def linear(x: Tensor, weight: Tensor, keep: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`gathered` plus ``bias`` [N], if there is one: float64 [rows, N]."""
    output = gathered(x, weight, keep)
    return output if bias is None else output + bias.double()


def linear_bound(
    x: Tensor,
    weight: Tensor,
    keep: Tensor,
    bias: Tensor | None,
    precision: Precision,
    roundings: int = 1,
) -> Tensor:
    """How far a kernel's rounded result may be from :func:`linear`: float64 [rows, N].

    2 u_out |ref| + 4 sqrt(n) u_acc (|W| |x| + |b|) + n/2 u_acc (|ref| + |b|) + tiny

    with n = nnz + ``roundings`` terms; see :func:`summed`.
    """
    reference = linear(x, weight, keep, bias)
    start = x.new_zeros(()).double() if bias is None else bias.double().abs()
    magnitude = gathered(x.abs(), weight.abs(), keep) + start
    terms = keep.sum(1, keepdim=True) + roundings
    return output_bound(reference, precision.output) + summed(
        magnitude, reference.abs() + start, terms, precision.accumulate
    )


def summed(magnitude: Tensor, ends: Tensor, terms: Tensor, accumulate: torch.dtype) -> Tensor:
    """How far a rounded sum may be from the exact one; 0 if all of its terms are 0.

    ``sum_bound`` takes errors for as often up as down.  Those of equal terms need not be: they
    may go the same way at every step, each at most u times the partial sum.  Partial sums of n
    equal terms lie on a line from the first to the last, and add up to n/2 (|first| + |last|):

        sum_bound(magnitude) + n/2 u (|first| + |last|)

    Where terms cancel, the second part is small beside the first, and where they do not, beside
    the result.

    Args:
        magnitude: sum of the terms' absolute values, float64.
        ends: |first| + |last| of the partial sums: |bias| + |reference|.
        terms: their number n, broadcasts to ``magnitude``.
        accumulate: dtype of the partial sums.
    """
    drift = terms / 2 * (torch.finfo(accumulate).eps / 2) * ends
    return torch.where(magnitude == 0, 0.0, sum_bound(magnitude, terms, accumulate) + drift)
