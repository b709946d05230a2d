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
    magnitude = gathered(x.abs(), weight.abs(), keep)
    terms = keep.sum(1, keepdim=True) + roundings
    return layer_bound(linear(x, weight, keep, bias), magnitude, bias, terms, precision)


def layer_bound(
    reference: Tensor, magnitude: Tensor, bias: Tensor | None, terms: Tensor, precision: Precision
) -> Tensor:
    """How far a layer's rounded result may be off: float64 [rows, N].

    Args:
        reference: of the layer, float64.
        magnitude: the sum of its products' absolute values, float64.
        bias: [N], or None.
        terms: their number, with the bias.
        precision: of the kernel; the products are those of ``weight``.
    """
    start = reference.new_zeros(()) if bias is None else bias.double().abs()
    bound = output_bound(reference, precision.output) + summed(
        magnitude + start, reference.abs() + start, terms, precision.of("weight")
    )
    if bias is None or "bias" not in precision.adds:
        return bound
    # The sum and the bias are rounded to that dtype, and what they add up to.
    info = torch.finfo(precision.adds["bias"])
    rounded = (reference - bias.double()).abs() + start + reference.abs()
    return bound + info.eps / 2 * rounded + 3 * info.smallest_normal * info.eps


def summed(magnitude: Tensor, ends: Tensor, terms: Tensor, precision: Precision) -> Tensor:
    """How far a rounded sum of products may be from the exact one; 0 if all of its terms are 0.

    ``sum_bound`` takes errors for as often up as down.  Those of equal terms need not be: they
    may go the same way at every step, each at most u times the partial sum.  Partial sums of n
    equal terms lie on a line from the first to the last, and add up to n/2 (|first| + |last|):

        sum_bound(magnitude) + n/2 u (|first| + |last|)

    Where terms cancel, the second part is small beside the first, and where they do not, beside
    the result.  Where both factors of a product are rounded before, that comes on top:

        2 u_factors magnitude

    Args:
        magnitude: sum of the terms' absolute values, float64.
        ends: |first| + |last| of the partial sums: |bias| + |reference|.
        terms: their number n, broadcasts to ``magnitude``.
        precision: of the products.
    """
    accumulate = precision.accumulate
    drift = terms / 2 * (torch.finfo(accumulate).eps / 2) * ends
    drift = drift + 2 * precision.factors * magnitude
    return torch.where(magnitude == 0, 0.0, sum_bound(magnitude, terms, accumulate) + drift)
