"""The op ``sparse_linear``: a linear layer that ignores the inactive channels of its input.

    y = W S_t(x) + b,    S_t(x)_i = x_i if |x_i| > t, else 0

This is the definition kernels are held to: float64, dense, slow and plain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Slack of the bound over the typical growth sqrt(n) u of a rounded sum of n terms.
_SLACK = 4.0


@dataclass(frozen=True, eq=False)
class SparseLinearInputs:
    """Operands of ``sparse_linear``, checked.

    Attributes:
        x: activations, [rows, K], a floating dtype.
        weight: [N, K], a floating dtype.
        threshold: t, finite and at least 0.  It is rounded to the nearest number of x's dtype,
            since activations are compared in the dtype in which they are stored.
        bias: [N], a floating dtype, or None.
    """

    x: Tensor
    weight: Tensor
    threshold: float
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor, dims in (("x", self.x, 2), ("weight", self.weight, 2)):
            if tensor.ndim != dims:
                raise ValueError(f"{name} must have {dims} dimensions, not {tensor.ndim}")
            _require_floating(name, tensor)
        if self.weight.shape[1] != self.x.shape[1]:
            raise ValueError(
                f"weight must have one column per channel of x: {self.x.shape[1]}, "
                f"not {self.weight.shape[1]}"
            )
        if self.bias is not None:
            _require_floating("bias", self.bias)
            if self.bias.shape != self.weight.shape[:1]:
                raise ValueError(
                    f"bias must have shape {tuple(self.weight.shape[:1])}, "
                    f"not {tuple(self.bias.shape)}"
                )
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"threshold must be finite and at least 0, not {self.threshold}")
        if math.isinf(round_to(self.threshold, self.x.dtype)):
            raise ValueError(f"threshold {self.threshold} is beyond the range of {self.x.dtype}")


def round_to(value: float, dtype: torch.dtype) -> float:
    """The number of ``dtype`` nearest to ``value``."""
    return float(torch.tensor(value, dtype=dtype))


def active(inputs: SparseLinearInputs) -> Tensor:
    """Which channels take part: bool [rows, K], |x| > t in x's dtype; NaN takes part."""
    # "not <=" rather than ">": only so does a NaN activation stay and spoil its row visibly.
    return ~(inputs.x.abs() <= round_to(inputs.threshold, inputs.x.dtype))


def sparse_linear(inputs: SparseLinearInputs) -> Tensor:
    """The op in float64: [rows, N].  Weights of a row's inactive channels are not read."""
    output = _per_row(inputs, inputs.x.double(), inputs.weight.double())
    return output if inputs.bias is None else output + inputs.bias.double()


def error_bound(
    inputs: SparseLinearInputs, output_dtype: torch.dtype, accumulate_dtype: torch.dtype
) -> Tensor:
    """How far each output of a right kernel may be from :func:`sparse_linear`: float64 [rows, N].

    |out - ref| <= 2 u_out |ref| + 4 sqrt(nnz + 1) u_acc (|W| |S_t(x)| + |b|) + tiny

    with u the unit round-off of a dtype and nnz the active channels of the row.  The first term
    is the rounding of the result; the second that of a sum of nnz products and a bias, which
    grows as sqrt(nnz) when rounding errors are as often up as down (Higham and Mary 2019, "A New
    Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41:A2815-A2835);
    tiny is what underflow may cost: a subnormal step of the output, and the smallest normal
    number of the accumulator per term.

    Args:
        inputs: the operands.
        output_dtype: of the kernel's result.
        accumulate_dtype: of the kernel's partial sums.
    """
    terms = active(inputs).sum(1, keepdim=True).double() + 1
    magnitude = _per_row(inputs, inputs.x.double().abs(), inputs.weight.double().abs())
    if inputs.bias is not None:
        magnitude = magnitude + inputs.bias.double().abs()
    output, accumulator = torch.finfo(output_dtype), torch.finfo(accumulate_dtype)
    tiny = output.smallest_normal * output.eps + terms * accumulator.smallest_normal
    rounding = _SLACK * terms.sqrt() * (accumulator.eps / 2) * magnitude
    return output.eps * sparse_linear(inputs).abs() + rounding + tiny


def tolerance_used(
    output: Tensor, inputs: SparseLinearInputs, accumulate_dtype: torch.dtype
) -> Tensor:
    """Error over bound of each element of a kernel's ``output``: float64 [rows, N].

    A right kernel stays at or below 1.  Where the reference is NaN the output must be NaN; where
    the reference is infinite, or rounds to infinity in the output's dtype, so must the output be:
    0 if it is, infinity if it is not.

    Raises:
        ValueError: ``output`` does not have the reference's shape.
    """
    reference = sparse_linear(inputs)
    if output.shape != reference.shape:
        raise ValueError(
            f"output must have shape {tuple(reference.shape)}, not {tuple(output.shape)}"
        )
    rounded = reference.to(output.dtype)
    special = ~rounded.isfinite() & ((output == rounded) | (output.isnan() & rounded.isnan()))
    ratio = (output.double() - reference).abs() / error_bound(
        inputs, output.dtype, accumulate_dtype
    )
    return torch.where(special, 0.0, ratio.nan_to_num(nan=math.inf, posinf=math.inf))


def _per_row(inputs: SparseLinearInputs, x: Tensor, weight: Tensor) -> Tensor:
    """Row by row x @ weight.T over the row's active channels only: float64 [rows, N].

    Gathered and not masked: 0 times the NaN of a weight that must not be read is NaN.
    """
    output = x.new_zeros(x.shape[0], weight.shape[0])
    for row, keep in enumerate(active(inputs)):
        output[row] = weight[:, keep] @ x[row, keep]
    return output


def _require_floating(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must have a floating dtype, not {tensor.dtype}")
