"""``compact`` with torch operators."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.reference.compact import CompactInputs


@sparse_kernel(op="compact", backend="torch")
def compact(x: Tensor, threshold: float) -> Tensor:
    """The channels active in some row of x [rows, K], ascending: int32 [count].

    Raises:
        ValueError, TypeError: the operands are not what ``CompactInputs`` asks for.
    """
    CompactInputs(x, threshold)
    active = sparsify_activations(x, threshold).ne(0).any(0)
    return active.nonzero().flatten().to(torch.int32)
