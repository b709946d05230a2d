"""Whether a layer is a plain ``nn.Linear``, and what holds for those of other libraries.

Libraries that quantise, adapt, offload, shard or compile put layers of their own in the place of a
linear one, or change what it computes or where its weight is.  A site's input can be masked before
all of them.  What reads the weight itself, kernels and folded biases, needs a plain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def difference(layer: nn.Module) -> str | None:
    """In what a layer is no plain ``nn.Linear``, to be read behind its name; None if in nothing.

    Plain is one that computes x W^T + b with the weight [N, K] that it holds: its class may be
    derived from ``nn.Linear``, and it may have hooks, which are called around what is computed.
    """
    import torch
    from torch import nn

    kind = type(layer)
    if not isinstance(layer, nn.Linear):
        return "is no torch.nn.Linear"
    if kind.forward is not nn.Linear.forward or kind.__call__ is not nn.Module.__call__:
        return "has a forward of its own"
    if "forward" in vars(layer):
        return "has a forward that was replaced"
    if "weight" not in layer._parameters:
        return "holds no weight but makes it of others"
    weight = layer.weight
    if type(weight) not in (nn.Parameter, torch.Tensor):
        return f"stores its weight as {type(weight).__name__}"
    if weight.is_meta:
        return "has its weight elsewhere (it is on the meta device, as offloading leaves it)"
    if not weight.is_floating_point() or weight.element_size() < 2:
        return f"stores its weight as {str(weight.dtype).removeprefix('torch.')}"
    wanted = [layer.out_features, layer.in_features]
    if weight.layout != torch.strided or list(weight.shape) != wanted:
        return f"packs its weight (it has shape {list(weight.shape)}, not {wanted})"
    return None


def described(layer: nn.Module) -> str:
    """The layer's class, and in what it is no plain linear layer, to be read behind "is a"."""
    kind = type(layer)
    home = "torch.nn" if kind.__module__ == "torch.nn.modules.linear" else kind.__module__
    return f"{home}.{kind.__qualname__}, which {difference(layer)}"


def is_layer_of_others(module: nn.Module) -> bool:
    """Whether a module stands where a linear layer could, in the words that libraries share."""
    from torch import nn

    sizes = (vars(module).get(each) for each in ("in_features", "out_features"))
    return not isinstance(module, nn.Linear) and all(isinstance(each, int) for each in sizes)


def linear_layers(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of the layers in ``block`` that are linear or stand for one.

    Those inside of another are left out: an adapter (LoRA) holds the layer that it adapts, and is
    what the block calls.
    """
    from torch import nn

    for name, module in block.named_children():
        if isinstance(module, nn.Linear) or is_layer_of_others(module):
            yield name, module
        else:
            yield from ((f"{name}.{path}", layer) for path, layer in linear_layers(module))


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """(N, K) of the matrix that a layer stands for, however it stores it."""
    sizes: Any = layer
    return sizes.out_features, sizes.in_features
