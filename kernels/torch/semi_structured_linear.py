"""``semi_structured_linear`` with torch operators: activations are gathered for every slot."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight, slots
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs


@sparse_kernel(op="semi_structured_linear", **COMPOSED)
def semi_structured_linear(
    x: Tensor, weight: SemiStructuredWeight, threshold: float = 0.0, bias: Tensor | None = None
) -> Tensor:
    """W S_t(x) + b for x [rows, K], an N:M weight, bias [N]: [rows, N], in x's dtype.

    Raises:
        ValueError, TypeError: the operands are not what ``SemiStructuredLinearInputs`` asks for,
            or indices are not ascending or not within their group.
    """
    SemiStructuredLinearInputs(x, weight, threshold, bias)
    first = torch.arange(0, weight.channels, weight.m, device=x.device)
    channel = slots(weight.indices, weight.m) + first[:, None, None]
    kept = sparsify_activations(x, threshold).float()
    values = weight.values.float()
    # A dense multiplication would spread the NaN of a channel to outputs that do not keep it.
    output = torch.stack([(values * row[channel]).sum((0, 1)) for row in kept])
    return (output if bias is None else output + bias.float()).to(x.dtype)
