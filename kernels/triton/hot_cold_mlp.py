"""``hot_cold_mlp`` in Triton: the hot neurons and the predicted cold ones, in one list.

What a program computes is a stretch of places: a hot neuron's place is its number, a cold one's
is found in the list.  So hot and cold neurons are merged by the sums that are there anyway.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.sparse_linear_indexed import listed_product
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs


@sparse_kernel(op="hot_cold_mlp", backend="triton", unavailable=launching.unavailable)
def hot_cold_mlp(
    x: Tensor, up: Tensor, down: Tensor, hot: int, cold: Tensor,
    activation: str = "relu", gate: Tensor | None = None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """An MLP over neurons 0 to hot - 1 and those in ``cold``: [rows, N], in x's dtype.

    For x [1 to 8 rows, K], up and gate [I, K], down [N, I], cold int32 [count].  Fast if a
    neuron's weights are contiguous in all of them, right for any strides.  Checking the indices
    waits for the GPU; :func:`unchecked` does not.  With ``atomic`` the product with down adds the
    splits' parts as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``HotColdMlpInputs`` asks for, or not on
            a GPU.
    """
    launching.check(HotColdMlpInputs(x, up, down, hot, cold, activation, gate))
    return unchecked(x, up, down, hot, cold, activation, gate, atomic)


def unchecked(
    x: Tensor, up: Tensor, down: Tensor, hot: int, cold: Tensor,
    activation: str, gate: Tensor | None, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """:func:`hot_cold_mlp` for operands that were checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.predicted import predicted

    rows, channels, count = *x.shape, hot + len(cold)
    cold = cold.contiguous()
    hidden = x.new_empty(rows, count, dtype=torch.float32)
    plan = configurations.hidden(rows, channels, x.element_size(), launching.processors(x))
    if count:
        launching.launch(
            predicted,
            (-(-count // plan.neurons),),
            x,
            *(gate, up, cold, hidden),
            *(rows, hot, count, channels),
            *x.stride(),
            *((0, 0) if gate is None else gate.stride()),
            *up.stride(),
            warps=plan.warps,
            ACTIVATION=activation,
            **plan.tile,
        )
    return listed_product(hidden, down, hot, cold, packed=True, atomic=atomic)


sparse_kernel(op="hot_cold_mlp", **launching.SPLIT_K)(partial(hot_cold_mlp, atomic=True))
