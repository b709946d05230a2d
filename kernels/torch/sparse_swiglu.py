"""``sparse_swiglu`` with torch operators, for the evaluation of whole models."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.kernels.torch.activation import activate
from pytest_sparsity.kernels.torch.composed import COMPOSED
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs


@sparse_kernel(op="sparse_swiglu", intermediate="operand", **COMPOSED)
def sparse_swiglu(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, threshold: float, activation: str = "silu"
) -> Tensor:
    """Compute down (a * up x) over neurons with |a| > t, a = act(gate x): [rows, N], in x's dtype.

    Dense multiplications with zeros in the last: it reads every weight.

    Raises:
        ValueError, TypeError: the operands are not what ``SparseSwigluInputs`` asks for.
    """
    SparseSwigluInputs(x, gate, up, down, threshold, activation)
    a = sparsify_activations(activate(activation, functional.linear(x, gate)), threshold)
    return functional.linear(a * functional.linear(x, up), down)
