"""``sparse_swiglu`` in Triton: the gate dense, then only the active neurons of up and down.

The order of CATS (arXiv 2404.08763, section 4).  Gate and up are one kernel: a program sums the
gates of its neurons and goes on with those that exceed the threshold.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.triton import configurations, launching
from pytest_sparsity.kernels.triton.sparse_linear import masked_product
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs


@sparse_kernel(op="sparse_swiglu", backend="triton", unavailable=launching.unavailable)
def sparse_swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float,
    activation: str = "silu", atomic: bool = False,
) -> Tensor:  # fmt: skip
    """Down (a * up x) over neurons with |a| > t, where a = act(gate x): [rows, N], in x's dtype.

    For x [1 to 8 rows, K], gate and up [I, K], down [N, I].  Fast if a neuron's weights are
    contiguous in all three, right for any strides.  With ``atomic`` the product with down adds
    the splits' parts as they come, by float32 atomics.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseSwigluInputs`` asks for, or not
            on a GPU.
    """
    launching.check(SparseSwigluInputs(x, gate, up, down, threshold, activation))
    return unchecked(x, gate, up, down, threshold, activation, atomic)


def unchecked(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float,
    activation: str, atomic: bool = False,
) -> Tensor:  # fmt: skip
    """:func:`sparse_swiglu` for operands that were checked before; wrong ones do anything."""
    from pytest_sparsity.kernels.triton._jit.gated import gated

    rows, (neurons, channels) = len(x), gate.shape
    plan = configurations.hidden(rows, channels, x.element_size(), launching.processors(x))
    activated = x.new_empty(rows, neurons, dtype=torch.float32)
    hidden = torch.empty_like(activated)
    launching.launch(
        gated,
        (-(-neurons // plan.neurons),),
        x,
        *(gate, up, activated, hidden),
        *(rows, neurons, channels, threshold),
        *(*x.stride(), *gate.stride(), *up.stride()),
        warps=plan.warps,
        ACTIVATION=activation,
        **plan.tile,
    )
    return masked_product(hidden, activated, down, threshold, atomic=atomic)


sparse_kernel(op="sparse_swiglu", **launching.SPLIT_K)(partial(sparse_swiglu, atomic=True))
