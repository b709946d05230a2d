"""The op ``sparse_qkv``: the three projections of attention in one, each with its threshold.

    y = [W_q S_tq(x), W_k S_tk(x), W_v S_tv(x)] + b

S_t as in ``sparse_linear``.  TEAL (arXiv 2408.14690, section 4.3) gives every projection its own
threshold; with grouped queries k and v have fewer outputs than q (arXiv 2305.13245).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.sparse_linear import (
    SparseLinearInputs,
    sparse_linear,
)
from pytest_sparsity.reference.sparse_linear import error_bound as linear_bound


@dataclass(frozen=True, eq=False)
class SparseQkvInputs:
    """Operands of ``sparse_qkv``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        weight: [Nq + Nk + Nv, K], x's dtype, any strides: the rows of q, then of k, then of v.
        sizes: (Nq, Nk, Nv), each at least 1.
        thresholds: of q, k and v; as in ``sparse_linear``.
        bias: [Nq + Nk + Nv], x's dtype, or None.
    """

    x: Tensor
    weight: Tensor
    sizes: tuple[int, int, int]
    thresholds: tuple[float, float, float]
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_weight("weight", self.weight, self.x)
        outputs = self.weight.shape[0]
        _check_three("sizes", self.sizes)
        if min(self.sizes) < 1:
            raise ValueError(f"sizes must be at least 1, not {min(self.sizes)}")
        if sum(self.sizes) != outputs:
            raise ValueError(
                f"sizes must add up to the {outputs} rows of weight, not to {sum(self.sizes)}"
            )
        _check_three("thresholds", self.thresholds)
        for part, threshold in enumerate(self.thresholds):
            operands.check_threshold(f"thresholds[{part}]", threshold, self.x.dtype)
        operands.check_bias(self.bias, self.x, outputs)


def sparse_qkv(inputs: SparseQkvInputs) -> Tensor:
    """The op in float64: [rows, Nq + Nk + Nv]."""
    return torch.cat([sparse_linear(part) for part in _parts(inputs)], dim=1)


def error_bound(inputs: SparseQkvInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from :func:`sparse_qkv`: float64 [rows, N].

    That of ``sparse_linear``, for each projection.
    """
    return torch.cat([linear_bound(part, precision) for part in _parts(inputs)], dim=1)


def needed(inputs: SparseQkvInputs) -> Mapping[str, Tensor]:
    """Which weights a sparse kernel reads: of each projection, its active channels'."""
    keep = [
        operands.active(inputs.x, threshold).any(0).expand(size, -1)
        for size, threshold in zip(inputs.sizes, inputs.thresholds, strict=True)
    ]
    return {"weight": torch.cat(keep)}


def _check_three(name: str, given: Sequence[float]) -> None:
    if len(given) != 3:
        raise ValueError(f"{name} must be three numbers, of q, k and v, not {len(given)}")


def _parts(inputs: SparseQkvInputs) -> Iterator[SparseLinearInputs]:
    """The three projections as ops of their own."""
    start = 0
    for size, threshold in zip(inputs.sizes, inputs.thresholds, strict=True):
        rows = slice(start, start + size)
        bias = None if inputs.bias is None else inputs.bias[rows]
        yield SparseLinearInputs(inputs.x, inputs.weight[rows], threshold, bias)
        start += size
