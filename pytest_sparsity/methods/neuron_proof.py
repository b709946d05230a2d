"""Whether a module is the op ``hot_cold_mlp``, and whether a kernel gives what the module does.

Both are shown on random rows: what a module says of itself is not looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_sparsity.methods.neuron_mlp import KernelMlp, Mlp
from pytest_sparsity.methods.plan import HIDDEN, NeuronSelector, Plan
from pytest_sparsity.methods.topk_mask import dropped_count
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs, error_bound, hot_cold_mlp
from pytest_sparsity.reference.operands import DTYPES
from pytest_sparsity.reference.precision import Precision, output_bound, tolerance_used

#: What a proof looks at: so many rows, each a quarter as large as the one before, so that a
#: threshold anywhere near zero shows, and so many neurons.
_ROWS, _NEURONS = 8, 64


def proven(
    model: LanguageModel,
    sites: Mapping[str, Site],
    down: Site,
    plan: Plan,
    biases: Mapping[str, Tensor],
) -> Mlp | None:
    """The MLP of a ``down`` site; None if a kernel would compute something else."""
    names = [f"{down.layer}.{kind}" for kind in ("gate", "up", "down")]
    own = {site.kind: site for name in names if (site := sites.get(name)) is not None}
    if "up" not in own:
        return None
    before = {site.name for kind, site in own.items() if kind != "down"}
    if before & (set(plan.selectors) | set(biases)):
        return None
    block = model.block_of(list(own.values()))
    if not _holds_only(block, [site.module for site in own.values()]):
        return None
    selector, neurons = plan.neurons[down.name], down.module.in_features
    mask = getattr(selector, "mask", None) if selector.reads == HIDDEN else None
    if selector.reads == HIDDEN and not _is_fixed(selector, mask, down.module):
        return None
    gate = own["gate"].module.weight.detach() if "gate" in own else None
    up = own["up"].module.weight.detach()
    activation = _activation(block, down.module, up, gate)
    if activation is None:
        return None
    return Mlp(
        names=tuple(site.name for site in own.values()),
        block=block,
        up=up,
        gate=gate,
        last=down.module,
        bias=biases.get(down.name, down.module.bias),
        activation=activation,
        selector=selector,
        fixed=mask,
        kept=neurons - dropped_count(plan.target(down.name), neurons),
    )


def _holds_only(block: nn.Module, layers: Sequence[nn.Linear]) -> bool:
    """Whether a module has these layers' parameters alone, and no hooks that a kernel passes by."""
    inside = [module for module in block.modules() if module is not block]
    if any(module._forward_hooks or module._forward_pre_hooks for module in inside):
        return False
    theirs = {id(parameter) for layer in layers for parameter in layer.parameters()}
    if {id(parameter) for parameter in block.parameters()} != theirs:
        return False
    weight = layers[0].weight
    if any((w.dtype, w.device) != (weight.dtype, weight.device) for w in block.parameters()):
        return False
    try:
        inspect.signature(block.forward).bind(weight)
    except TypeError:  # more than one tensor
        return False
    return weight.dtype in DTYPES


def _is_fixed(selector: NeuronSelector, mask: Any, down: nn.Linear) -> bool:
    """Whether a selector that reads the neurons keeps those of ``mask``, whatever they are."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 1:
        return False
    h = _random(3, down.in_features).to(down.weight)
    h[-1] = 0
    return mask.shape[0] == h.shape[1] and torch.equal(selector.keeps(h), mask.expand(h.shape))


def _activation(block: nn.Module, down: nn.Linear, up: Tensor, gate: Tensor | None) -> str | None:
    """The activation with which a module computes the op; None if there is none.

    It is found by comparing results over some random neurons, on rows of many sizes.
    """
    x, some = _probe(up)
    keep = torch.zeros(up.shape[0], dtype=torch.bool, device=x.device)
    keep[some.long()] = True

    def mask(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (torch.where(keep, args[0], 0),)

    handle = down.register_forward_pre_hook(mask)
    try:
        with torch.no_grad():
            found: Any = block.forward(x[None])
    finally:
        handle.remove()
    if not isinstance(found, Tensor) or found.shape != (1, _ROWS, down.out_features):
        return None
    own = Precision(x.dtype, torch.float32, x.dtype)
    columns = down.weight.detach()
    for activation in ACTIVATIONS:
        if _is_right(found[0], up, gate, columns, down.bias, activation, own):
            return activation
    return None


def agrees(each: KernelMlp) -> bool:
    """Whether a kernel gives what the module does, over the same neurons and rows."""
    mlp = each.mlp
    x, some = _probe(mlp.up)
    found = torch.cat([each(row[None], some) for row in x])
    precision = each.kernel.precision(x.dtype)
    return _is_right(found, mlp.up, mlp.gate, mlp.down, mlp.bias, mlp.activation, precision)


def _probe(up: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [rows, K], and some neurons, int32, ascending: the same ones for the same shape."""
    x = _random(_ROWS, up.shape[1]) * 4.0 ** (1 - torch.arange(_ROWS))[:, None]
    lot = torch.Generator().manual_seed(1)
    some = torch.randperm(up.shape[0], generator=lot)[:_NEURONS].sort().values
    return x.to(up), some.to(up.device, torch.int32)


def _is_right(
    found: Tensor,
    up: Tensor,
    gate: Tensor | None,
    down: Tensor,
    bias: Tensor | None,
    activation: str,
    precision: Precision,
) -> bool:
    """Whether the result of a :func:`_probe` is within the op's error bound in all places."""
    x, some = _probe(up)
    # Weights of other neurons do not matter: those that were drawn are all that are left here.
    inputs = HotColdMlpInputs(
        x=x,
        up=up[some],
        down=down[:, some],
        hot=len(some),
        cold=some[:0],
        activation=activation,
        gate=None if gate is None else gate[some],
    )
    reference, bound = hot_cold_mlp(inputs), error_bound(inputs, precision)
    if bias is not None:
        reference = reference + bias.double()
        bound = bound + output_bound(reference, x.dtype)
    right = tolerance_used(found, reference, bound) <= 1
    return bool((right & bound.isfinite()).all())


def _random(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
