"""An MLP of which a kernel computes the neurons that a token keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor, nn

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.kernels.unchecked import unchecked
from pytest_sparsity.methods.plan import NeuronSelector


@dataclass(frozen=True, eq=False)
class Mlp:
    """One layer's MLP, proven to be the op, and who decides about its neurons.

    Attributes:
        names: its sites, ``down`` last.
        block: the module that computes it, from one tensor.
        up: [I, K].
        gate: [I, K] or None.
        last: its ``down``, [N, I].
        bias: [N] or None, added to the result: ``down``'s own, or what a plan puts in its place.
        activation: one of ``reference.activation.ACTIVATIONS``.
        selector: of its neurons.
        fixed: bool [I] if they are the same at every token, else None.
        kept: how many neurons a token keeps, as the plan has it.
    """

    names: tuple[str, ...]
    block: nn.Module
    up: Tensor
    gate: Tensor | None
    last: nn.Linear
    bias: Tensor | None
    activation: str
    selector: NeuronSelector
    fixed: Tensor | None
    kept: int

    @property
    def down(self) -> Tensor:
        """The weight of ``last``, [N, I]."""
        return self.last.weight.detach()

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for layers of which one takes as long as another."""
        shapes = tuple(self.up.shape), self.gate is None, tuple(self.down.shape)
        own = self.selector
        decides = type(own), own.reads, getattr(own, "weights", 0), self.fixed is None
        return type(self.block), shapes, self.up.dtype, self.up.device, decides, self.activation

    @cached_property
    def columns(self) -> Tensor:
        """A copy of ``down`` whose columns are contiguous."""
        return self.down.t().contiguous().t()


class KernelMlp:
    """An MLP as a kernel for one row.

    Attributes:
        mlp: what it computes.
        kernel: with what.
    """

    def __init__(self, mlp: Mlp, kernel: Kernel) -> None:
        self.mlp = mlp
        self.kernel = kernel
        self.fixed = None if mlp.fixed is None else listed(mlp.fixed)
        self._call = unchecked(kernel)
        self._operands = {
            "up": mlp.up,
            "down": mlp.columns,
            "hot": 0,
            "activation": mlp.activation,
            "gate": mlp.gate,
        }

    def __call__(self, x: Tensor, kept: Tensor) -> Tensor:
        """[1, N] for x [1, K] over the neurons ``kept``, int32, ascending."""
        y = self._call(x=x, cold=kept, **self._operands)
        return y if self.mlp.bias is None else y.add_(self.mlp.bias)

    def kept(self, read: Tensor) -> Tensor:
        """The neurons that a token keeps, int32, from what the selector reads, [..., width]."""
        if self.fixed is not None:
            return self.fixed
        # Kernels do not check their operands: another number of neurons must not reach them.
        return listed(self.mlp.selector.keeps(read).reshape(self.mlp.up.shape[0]))


def listed(keep: Tensor) -> Tensor:
    """The places where ``keep`` [I] is true: int32, ascending."""
    if keep.device.type != "cpu":
        return keep.nonzero().squeeze(1).int()
    # A third of the time of torch's, which is as long as a small layer's kernel.
    return torch.from_numpy(numpy.flatnonzero(keep.numpy()).astype(numpy.int32))
