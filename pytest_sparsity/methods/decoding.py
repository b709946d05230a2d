"""Sparse kernels in a model's linear layers, for the steps of decoding.

A prefill reads every weight for many tokens at once and stays dense.  A decoding step reads it
for one token, and there a kernel that skips the weights of inactive channels saves time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels import dispatch, registry
from pytest_sparsity.kernels.registry import Kernel, registered
from pytest_sparsity.kernels.unchecked import fixed
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.positions import DenseRows
from pytest_sparsity.models import Site
from pytest_sparsity.models.plain_layers import described, difference
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs

AUTO, NONE = "auto", "none"
Mask = Callable[[Tensor], Tensor]

_OP = op_of(SparseLinearInputs).name
#: Kinds of sites that read the same tensor: their weights are joined, and read in one call.
_INPUT = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate and up", "up": "gate and up"}


class Joined:
    """Layers that read the same input and keep the same channels of it, as one sparse kernel.

    Their weights are copied, next to each other and input-major: the N weights of a channel
    are contiguous, so that a skipped channel is skipped memory.  The copies take as much
    memory as the layers' own weights, which stay where they are for prefills.

    Attributes:
        names: the sites, in the order of their outputs.
        kernel: what computes them.
        rows: most rows it is used for.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        threshold: float,
        kernel: Kernel,
        rows: int,
        biases: Sequence[Tensor | None],
    ) -> None:
        layers = [site.module for site in sites]
        own = layers[0].weight
        self.names = [site.name for site in sites]
        self.kernel = kernel
        self.rows = rows
        self._sizes = [layer.out_features for layer in layers]
        channels = own.new_empty(layers[0].in_features, sum(self._sizes))
        for part, layer in zip(torch.split(channels, self._sizes, 1), layers, strict=True):
            part.copy_(layer.weight.t())
        bias = _joined_bias(layers, biases)
        self._compute = fixed(kernel, channels.t(), round_to(threshold, own.dtype), bias)

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """Outputs [..., N] of every layer for one input [..., K]."""
        y = self._compute(x.reshape(-1, x.shape[-1]))
        whole = y.view(*x.shape[:-1], y.shape[-1])
        if len(self._sizes) == 1:
            return (whole,)
        parts = torch.split(whole, self._sizes, -1)
        return parts if len(y) == 1 else [part.contiguous() for part in parts]


class _Step(threading.local):
    """The last input that went through a kernel, per thread: q, k and v read the same one."""

    source: Tensor | None = None
    joined: Joined | None = None
    outputs: Sequence[Tensor] = ()


class Exchanged:
    """Modules that have another ``forward`` for a time."""

    def __init__(self) -> None:
        self._before: list[tuple[dict[str, Any], Any]] = []

    def put(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Give a module this ``forward``."""
        own = vars(module)
        self._before.append((own, own.get("forward")))
        # On the object, and not by a hook: hooks cost more than a small layer's kernel.
        own["forward"] = forward

    def give_back(self) -> None:
        """Give all of them their own ``forward`` back."""
        for own, before in self._before:
            if before is None:
                del own["forward"]
            else:
                own["forward"] = before
        self._before = []


class KernelLayers:
    """Linear layers that run kernels in decoding steps, and are masked in all other passes.

    Args:
        dense: tells which forward passes are decoding steps.
        count: told of every input that goes through a kernel.
    """

    def __init__(self, dense: DenseRows, count: Callable[[Joined, Tensor], None]) -> None:
        self._dense = dense
        self._count = count
        self._step = _Step()
        self._exchanged = Exchanged()

    def install(self, joined: Joined, layers: Sequence[tuple[nn.Linear, Mask]]) -> None:
        """Exchange the ``forward`` of the layers that ``joined`` computes, each with its mask."""
        for place, (layer, mask) in enumerate(layers):
            self._exchanged.put(layer, self._forward(joined, place, mask, layer.forward))

    def remove(self) -> None:
        """Give the layers their own ``forward`` back."""
        self._exchanged.give_back()

    def forget(self) -> None:
        """The forward pass is over."""
        step = self._step
        step.source, step.joined, step.outputs = None, None, ()

    def _forward(self, joined: Joined, place: int, mask: Mask, dense_forward: Mask) -> Mask:
        dense, step, rows = self._dense, self._step, joined.rows

        def forward(x: Tensor) -> Tensor:
            # Kernels have no gradients, and may be slower than dense for more rows.
            if not dense.decoding or x.numel() > rows * x.shape[-1] or x.requires_grad:
                return dense_forward(mask(x))
            if step.source is not x or step.joined is not joined:
                step.source, step.joined, step.outputs = x, joined, joined(x)
                self._count(joined, x)
            return step.outputs[place]

        return forward


def join(
    sites: Iterable[Site], plan: Plan, kernels: str, biases: Mapping[str, Tensor]
) -> list[Joined]:
    """Which layers run which kernel; layers that are left out are masked in all passes.

    Args:
        sites: those of the model that the plan sparsifies, in the model's order.
        plan: its :class:`Threshold` selectors can be computed by kernels, others cannot.
        kernels: ``"none"``, a name in the registry for every layer, or ``"auto"``: the kernel
            that is fastest by :mod:`~pytest_sparsity.kernels.dispatch`, if it beats dense.
        biases: by site, in place of the layer's own.

    Raises:
        SparsityError: there is no such kernel, or it cannot run here or on this model.
    """
    able = [site for site in sites if isinstance(plan.selectors[site.name], Threshold)]
    if kernels == NONE:
        return []
    able = plain(able, kernels)
    if not able:
        return []
    weight = able[0].module.weight
    choice = usable(_OP, weight) if kernels == AUTO else [named(_OP, kernels, weight)]
    found = []
    for _, together in groupby(able, key=lambda site: _input(site, plan)):
        members = list(together)
        if kernels == AUTO:
            best = _fastest(members, 1.0 - plan.level, choice)
        else:
            best = choice[0], choice[0].max_rows
        if best is not None:
            selector = plan.selectors[members[0].name]
            assert isinstance(selector, Threshold)
            own = [biases.get(site.name, site.module.bias) for site in members]
            found.append(Joined(members, selector.value, *best, own))
    return found


def plain(sites: Iterable[Site], kernels: str) -> list[Site]:
    """Those whose layer is a plain ``nn.Linear``, which alone a kernel computes.

    Raises:
        SparsityError: a kernel was named, and one of them is none.
    """
    found = []
    for site in sites:
        if difference(site.module) is None:
            found.append(site)
        elif kernels != AUTO:
            raise SparsityError(
                f"kernels={kernels!r} cannot be used: the layer of {site.name} is a "
                f"{described(site.module)}, and kernels compute plain linear layers only; use "
                f"kernels={AUTO!r}, which masks such layers"
            )
    return found


def _input(site: Site, plan: Plan) -> tuple[Any, ...]:
    """Equal for sites that read the same channels of the same input."""
    return site.layer, site.group, _INPUT.get(site.kind, site.kind), plan.selectors[site.name]


def _fastest(
    members: Sequence[Site], active: float, choice: Sequence[Kernel]
) -> tuple[Kernel, int] | None:
    """The kernel that is fastest on these layers and for how many rows; None if dense is."""
    weight = members[0].module.weight
    best = dispatch.best_kernel(
        dispatch.measured(weight.device.type),
        [kernel.name for kernel in choice],
        _dtype(weight),
        weight.shape[1],
        [site.module.out_features for site in members],
        active,
    )
    if best is None:
        return None
    name, rows = best
    (kernel,) = (each for each in choice if each.name == name)
    return kernel, min(rows, kernel.max_rows)


def usable(op: str, weight: Tensor) -> list[Kernel]:
    """The kernels of an op that run here on such a weight."""
    kernels = [kernel for kernel in registered().values() if kernel.op == op]
    return [kernel for kernel in kernels if _obstacle(kernel, weight) is None]


def named(op: str, name: str, weight: Tensor) -> Kernel:
    """The kernel of an op with this name.

    Raises:
        SparsityError: there is none, or it cannot run here or on such a weight.
    """
    kernel = registry.kernel(f"{op}/{name}")
    if (obstacle := _obstacle(kernel, weight)) is not None:
        raise SparsityError(f"kernels={name!r} cannot be used: {obstacle}")
    return kernel


def _obstacle(kernel: Kernel, weight: Tensor) -> str | None:
    return dispatch.obstacle(kernel, weight.device.type, _dtype(weight))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _joined_bias(layers: Sequence[nn.Linear], biases: Sequence[Tensor | None]) -> Tensor | None:
    if all(bias is None for bias in biases):
        return None
    zeros = layers[0].weight.new_zeros
    return torch.cat(
        [
            zeros(layer.out_features) if bias is None else bias
            for layer, bias in zip(layers, biases, strict=True)
        ]
    )
