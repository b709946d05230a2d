"""Experts that are stored one by one, held against each other and the configuration.

transformers stacks them while it loads, and names no tensor where that fails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"(.*\bexperts)\.(\d+)\.(.+)")
#: How configurations call the number of experts of a layer.
_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def surplus_experts(tensors: Mapping[str, torch.Tensor], config: Any) -> list[str]:
    """Names of tensors of experts that the configuration has no place for.

    Args:
        tensors: of a model's files, by name.
        config: of the model.
    """
    count = _count(config)
    matches = ((name, _NAME.fullmatch(name)) for name in tensors)
    return [name for name, found in matches if count and found and int(found[2]) >= count]


def check_experts(tensors: Mapping[str, torch.Tensor], config: Any) -> None:
    """See that every expert of a layer has the same tensors as the others.

    Raises:
        ValueError: one is missing, or has another shape; the message names it.
    """
    count = _count(config)
    layers: dict[str, dict[str, dict[int, list[int]]]] = {}
    for name, tensor in tensors.items():
        if found := _NAME.fullmatch(name):
            part = layers.setdefault(found[1], {}).setdefault(found[3], {})
            part[int(found[2])] = list(tensor.shape)
    for layer, parts in layers.items():
        wanted = count or 1 + max(number for shapes in parts.values() for number in shapes)
        for name, shapes in parts.items():
            for number in range(wanted):
                if number not in shapes:
                    raise ValueError(f"the weights lack the tensor {layer}.{number}.{name}")
            usual = Counter(map(tuple, shapes.values())).most_common(1)[0][0]
            for number, shape in sorted(shapes.items()):
                if shape != list(usual):
                    raise ValueError(
                        f"the tensor {layer}.{number}.{name} has shape {shape}, where those of "
                        f"other experts have {list(usual)}"
                    )


def _count(config: Any) -> int:
    """How many experts every layer has; 0 if the configuration does not say."""
    text = config.get_text_config()
    said = (getattr(text, key, None) for key in _COUNTS)
    return next((n for n in said if isinstance(n, int) and n > 0), 0)
