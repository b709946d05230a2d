"""The weight of a site as plain numbers, which is what can be folded and compressed."""

from __future__ import annotations

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.language_model import Site


def plain_weight(site: Site, model: str) -> torch.Tensor:
    """The weight [N, K] of ``site``, detached.

    Args:
        site: whose weight.
        model: the model's name, for the message.

    Raises:
        SparsityError: it is packed or quantised by a library: integers, or a tensor of its own
            kind, which ``W a`` cannot be computed from.
    """
    weight = site.module.weight.detach()
    wanted = (site.module.out_features, site.module.in_features)
    plain = type(weight) is torch.Tensor
    if not plain or not weight.is_floating_point() or weight.element_size() < 2:
        kind = str(weight.dtype).removeprefix("torch.") if plain else type(weight).__name__
        raise SparsityError(
            f"the weight of {site.name} in {model} is stored as {kind}, which can be neither "
            "compressed nor folded into a bias; load the model in bfloat16, float16 or float32 "
            "and compress it with --sparsity-weights"
        )
    if tuple(weight.shape) != wanted:
        raise SparsityError(
            f"the weight of {site.name} in {model} has shape {list(weight.shape)}, not "
            f"{list(wanted)}: it is packed; load the model in bfloat16, float16 or float32"
        )
    return weight
