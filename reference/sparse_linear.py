"""The op ``sparse_linear``: a linear layer that ignores the inactive channels of its input.

    y = W S_t(x) + b,    S_t(x)_i = x_i if |x_i| > t, else 0

TEAL (arXiv 2408.14690, section 4).  b may hold the folded vector of spontaneous neurons
(arXiv 2512.12744).  This is the definition kernels are held to: float64, dense, slow and plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.products import linear, linear_bound


@dataclass(frozen=True, eq=False)
class SparseLinearInputs:
    """Operands of ``sparse_linear``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        weight: [N, K], x's dtype, any strides.
        threshold: t, finite and at least 0.  It is rounded to the nearest number of x's dtype,
            since activations are compared in the dtype in which they are stored.
        bias: [N], x's dtype, or None.
    """

    x: Tensor
    weight: Tensor
    threshold: float
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_weight("weight", self.weight, self.x)
        operands.check_threshold("threshold", self.threshold, self.x.dtype)
        operands.check_bias(self.bias, self.x, self.weight.shape[0])


def sparse_linear(inputs: SparseLinearInputs) -> Tensor:
    """The op in float64: [rows, N].  Weights of a row's inactive channels are not read."""
    keep = operands.active(inputs.x, inputs.threshold)
    return linear(inputs.x, inputs.weight, keep, inputs.bias)


def error_bound(inputs: SparseLinearInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from :func:`sparse_linear`: float64 [rows, N].

    2 u_out |ref| + 4 sqrt(n) u_acc (|W| |S_t(x)| + |b|) + n/2 u_acc (|ref| + |b|) + tiny

    with n = nnz + 1, nnz the row's active channels (``products.linear_bound``).
    """
    keep = operands.active(inputs.x, inputs.threshold)
    return linear_bound(inputs.x, inputs.weight, keep, inputs.bias, precision)


def needed(inputs: SparseLinearInputs) -> Mapping[str, Tensor]:
    """Which weights a sparse kernel reads: those of channels that are active in some row."""
    keep = operands.active(inputs.x, inputs.threshold).any(0)
    return {"weight": keep.expand(inputs.weight.shape)}
