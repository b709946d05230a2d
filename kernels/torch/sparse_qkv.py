"""``sparse_qkv`` with torch operators: three masked multiplications."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs


@sparse_kernel(op="sparse_qkv", **COMPOSED)
def sparse_qkv(
    x: Tensor, weight: Tensor, sizes: tuple[int, int, int], thresholds: tuple[float, float, float],
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Projections to q, k and v: [rows, Nq + Nk + Nv], in x's dtype.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseQkvInputs`` asks for.
    """
    SparseQkvInputs(x, weight, sizes, thresholds, bias)
    biases = (None, None, None) if bias is None else torch.split(bias, list(sizes))
    parts = zip(torch.split(weight, list(sizes)), thresholds, biases, strict=True)
    return torch.cat(
        [functional.linear(sparsify_activations(x, t), rows, b) for rows, t, b in parts], dim=1
    )
