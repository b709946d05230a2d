"""Rounding: in which dtypes a kernel computes, and what that may cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: How far an operand may be off in TF32, relatively: a tensor core reads 10 bits of the 23 behind
#: the point, and ignores the others (PTX ISA, "mma": "the lower 13 bits are ignored").
TF32 = 2.0**-10
#: Slack of a sum's bound over sqrt(n) u, the typical growth of the error of n rounded terms.
_SLACK = 4.0


@dataclass(frozen=True)
class Precision:
    """The dtypes in which a kernel works.

    Attributes:
        output: of its result.
        accumulate: of its partial sums.
        intermediate: of values it stores between two stages (the hidden activations of an MLP).
        adds: operands that it adds to a sum in another dtype than it sums in, by name, as a bias.
        outside: operands that another library multiplies, by name, and in which dtype that sums.
        factors: how far operands of products may be off when they are multiplied, relatively:
            ``TF32``, or 0 where they are multiplied as they are.
    """

    output: torch.dtype
    accumulate: torch.dtype
    intermediate: torch.dtype
    adds: Mapping[str, torch.dtype] = field(default_factory=dict, hash=False)
    outside: Mapping[str, torch.dtype] = field(default_factory=dict, hash=False)
    factors: float = 0.0

    def of(self, operand: str) -> Precision:
        """That of the products with an operand, named as in ``operands.tensors``.

        Those of another library are stored in the dtype of the kernel's result, if that is narrower
        than what the kernel stores.
        """
        accumulate = self.outside.get(operand.partition(".")[0])
        if accumulate is None:
            return self
        narrower = max(self.intermediate, self.output, key=lambda d: torch.finfo(d).eps)
        return dataclasses.replace(self, accumulate=accumulate, intermediate=narrower)


def round_to(value: float, dtype: torch.dtype) -> float:
    """The number of ``dtype`` nearest to ``value``."""
    return float(torch.tensor(value, dtype=dtype))


def sum_bound(magnitude: Tensor, terms: Tensor, accumulate: torch.dtype) -> Tensor:
    """How far a rounded sum may be from the exact one, float64 of ``magnitude``'s shape.

    4 sqrt(terms) u magnitude + terms tiny: errors grow as sqrt(terms) when they are as often up
    as down (Higham and Mary 2019, "A New Approach to Probabilistic Rounding Error Analysis",
    SIAM J. Sci. Comput. 41:A2815-A2835); tiny, the smallest normal number, is what underflow
    may cost per term.

    Args:
        magnitude: sum of the terms' absolute values, float64.
        terms: number of terms, broadcasts to ``magnitude``.
        accumulate: dtype of the partial sums.
    """
    info = torch.finfo(accumulate)
    count = terms.double()
    return _SLACK * count.sqrt() * (info.eps / 2) * magnitude + count * info.smallest_normal


def output_bound(reference: Tensor, output: torch.dtype) -> Tensor:
    """How far rounding to the ``output`` dtype may move a result: 2 u |reference| + a subnormal.

    Args:
        reference: exact results, float64.
        output: dtype of the kernel's result.
    """
    info = torch.finfo(output)
    return info.eps * reference.abs() + info.smallest_normal * info.eps


def tolerance_used(output: Tensor, reference: Tensor, bound: Tensor) -> Tensor:
    """Error over bound of each element of a kernel's ``output``, float64; at most 1 if right.

    Where the reference is NaN the output must be NaN; where the reference is infinite, or rounds
    to infinity in the output's dtype, so must the output be: 0 if it is, infinity if it is not.

    Raises:
        ValueError: ``output`` does not have the reference's shape.
    """
    if output.shape != reference.shape:
        raise ValueError(
            f"output must have shape {tuple(reference.shape)}, not {tuple(output.shape)}"
        )
    rounded = reference.to(output.dtype)
    special = ~rounded.isfinite() & ((output == rounded) | (output.isnan() & rounded.isnan()))
    ratio = (output.double() - reference).abs() / bound
    return torch.where(special, 0.0, ratio.nan_to_num(nan=math.inf, posinf=math.inf))
