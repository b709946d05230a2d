"""Weights that are not where they are computed with: offloaded to the CPU's memory or to a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def execution_device(model: nn.Module) -> torch.device:
    """The device that accelerate brings the weights of ``model`` to, and with them its inputs."""
    import torch

    for module in model.modules():
        device = _of_hooks(module, "execution_device")
        if device is not None:
            return torch.device(f"cuda:{device}" if isinstance(device, int) else device)
    return torch.device("cpu")


def offloaded(module: nn.Module) -> dict[str, torch.Tensor]:
    """Name to the content of those parameters and buffers of a module that are on no device."""
    weights = _of_hooks(module, "weights_map")
    if weights is None:
        return {}
    own = [*module._parameters.items(), *module._buffers.items()]
    return {name: weights[name] for name, each in own if each is not None and each.is_meta}


def _of_hooks(module: nn.Module, name: str) -> Any:
    """An attribute of the hooks that accelerate has at a module: of the first that sets it."""
    hook = getattr(module, "_hf_hook", None)
    values = (getattr(each, name, None) for each in getattr(hook, "hooks", [hook]))
    return next((value for value in values if value is not None), None)
