"""Kernels with a known amount of extra work; copied into a repository of its own to be gated.

As committed there ``SLOWED`` is False and all of them are one kernel.  In the working copy it is
True, and each but the first works on a weight with so many channels more than it was given: so many
more bytes from memory and so many more products, in the same loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.kernels.cpu.sparse_linear import sparse_linear
from pytest_sparsity.kernels.registry import sparse_kernel

SLOWED = False
#: Channels beyond those of the weight, as a fraction: what 5, 10 and 20 % more time take, since a
#: part of a call does not depend on their number.
EXTRA = {"plus_0": 0.0, "plus_5": 0.07, "plus_10": 0.135, "plus_20": 0.24}


def _register(name: str, extra: float) -> None:
    # By address: the gate calls it with a few operands only, again and again.  Made once, so that
    # a call allocates no more than before, which the gate would notice.
    longer: dict[int, tuple[Tensor, Tensor]] = {}

    @sparse_kernel(op="sparse_linear", backend="cpu", name=name)
    def kernel(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        """W S_t(x) + b for x [rows, K], weight [N, K], bias [N]: [rows, N]."""
        more = round(extra * weight.shape[1])
        if SLOWED and more:
            if weight.data_ptr() not in longer:
                longer[weight.data_ptr()] = _longer(x, weight, more)
            x, weight = longer[weight.data_ptr()]
        return sparse_linear(x, weight, threshold, bias)


def _longer(x: Tensor, weight: Tensor, more: int) -> tuple[Tensor, Tensor]:
    """[rows, K + more] and [N, K + more] with the same product, a channel's weights together.

    The first channels come again at the end, so that as large a part of those is active.
    """
    found = weight.new_zeros(weight.shape[1] + more, weight.shape[0]).t()
    found[:, : weight.shape[1]] = weight
    return torch.cat([x, x[:, :more]], dim=1), found


for _name, _extra in EXTRA.items():
    _register(_name, _extra)
