"""Stacked experts that are given the tokens of all of them in one go, grouped by expert.

In transformers 4 the experts of Granite, JetMoE and Aria are modules with one parameter [E, N, K],
or [E, K, N], whose forward takes the rows that were sorted by expert, and how many each has.  In
their place stands :class:`GroupedExperts`, a plain ``nn.Linear`` for each expert over the same
memory, with a forward that makes the same products.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pytest_sparsity.models.routing import reading, routed_rows


class GroupedExperts(nn.Module):
    """The matrices of one kind of all experts, as linear layers ``experts.0``, ``experts.1``, ...

    Args:
        stacked: [E, N, K], or [E, K, N] if ``transposed``; the layers share its memory.
        transposed: whether the experts compute x @ W and not x @ W^T.
    """

    def __init__(self, stacked: nn.Parameter, transposed: bool) -> None:
        super().__init__()
        self.experts = nn.ModuleList()
        for matrix in stacked.detach():
            weight = matrix.t() if transposed else matrix
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = nn.Parameter(weight, stacked.requires_grad)
            self.experts.append(layer)

    def forward(self, x: Tensor, sizes: Any) -> Tensor:
        """What the experts make of x [R, K], [R, N], ``sizes`` of whose rows are an expert's."""
        counts = sizes.tolist() if isinstance(sizes, Tensor) else list(sizes)
        rows = routed_rows()
        owns = [None] * len(counts) if rows is None else torch.split(rows, counts)
        made = []
        for layer, part, own in zip(self.experts, torch.split(x, counts), owns, strict=True):
            with reading(own):
                made.append(layer(part))
        return torch.cat(made)


def grouped_parameter(module: nn.Module) -> nn.Parameter | None:
    """The parameter of experts that are given rows and the sizes of groups; None of others."""
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim != 3 or "Experts" not in type(module).__name__:
        return None
    takes = inspect.signature(type(module).forward).parameters
    return weight if len(takes) == 3 else None  # itself, the rows and the sizes


def grouped_layer(module: nn.Module) -> GroupedExperts:
    """What stands in the place of a module with a :func:`grouped_parameter`."""
    weight = grouped_parameter(module)
    assert weight is not None
    # Named after the general matrix multiplication, x @ W.
    layer = GroupedExperts(weight, transposed="Gemm" in type(module).__name__)
    return layer.train(module.training)
