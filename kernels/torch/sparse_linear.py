"""``sparse_linear`` with torch operators, for the evaluation of whole models."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.composed import COMPOSED


def sparsify_activations(x: Tensor, threshold: float) -> Tensor:
    """S_t(x): x where |x| > threshold, else 0; one pass, in x's dtype and shape.

    ``hardshrink`` is strict, keeps NaN and infinities, and turns -0 into 0.  It compares in
    x's dtype on some backends and in float32 on others; a threshold that x's dtype can represent
    makes them agree, so it is rounded to the nearest such number here.
    """
    return functional.hardshrink(x, torch.tensor(threshold, dtype=x.dtype).item())


@sparse_kernel(op="sparse_linear", **COMPOSED)
def sparse_linear(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [..., K], weight [N, K], bias [N]: [..., N], in the operands' dtype.

    A dense multiplication with zeros in it: it reads every weight, so that a NaN or infinite
    weight spoils its output even where the channel is inactive, and takes the time of dense.
    """
    return functional.linear(sparsify_activations(x, threshold), weight, bias)
