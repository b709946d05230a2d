"""The weight of a site as plain numbers, which is what can be folded and compressed."""

from __future__ import annotations

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.language_model import LanguageModel, Site
from pytest_sparsity.models.plain_layers import described, difference, shape_of

#: Inputs for which a layer is asked at a time.
_ROWS = 1024
#: How far from a product with one matrix a layer may be: rounding inputs to 8 bits takes 1 %.
_OFF = 0.05


def plain_weight(site: Site, model: str) -> torch.Tensor:
    """The weight [N, K] of ``site``, detached: the numbers themselves, which may be exchanged.

    Args:
        site: whose weight.
        model: the model's name, for the message.

    Raises:
        SparsityError: it is packed or quantised by a library: integers, or a tensor of its own
            kind; or the layer computes something else than a product with it.
    """
    if (found := difference(site.module)) is None:
        return site.module.weight.detach()
    stored = found.removeprefix("stores its weight as ")
    if stored != found:
        raise SparsityError(
            f"the weight of {site.name} in {model} is stored as {stored}, which can be "
            "neither compressed nor trained with; load the model in bfloat16, float16 or "
            "float32 and compress it with --sparsity-weights"
        )
    raise SparsityError(
        f"the weight of {site.name} in {model} cannot be compressed: its layer is a "
        f"{described(site.module)}; compress the model before it is wrapped, or use "
        "--sparsity-weights loaded"
    )


def read_weight(site: Site, model: LanguageModel) -> torch.Tensor:
    """What the layer of ``site`` multiplies by, [N, K], to be read only.

    That is the weight of a plain layer.  Of another one it is found by what the layer gives for
    one input at a time, which of a plain one would be the weight to the last bit.

    Raises:
        SparsityError: the layer does not compute a product with one matrix.
    """
    layer = site.module
    if difference(layer) is None:
        return layer.weight.detach()
    like = torch.empty(0, dtype=model.dtype, device=model.device)
    try:
        found = _effective_weight(layer, like)
        reason = "does not compute a product with one matrix" if found is None else ""
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        found, reason = None, f"cannot be run by itself ({type(error).__name__})"
    if found is None:
        raise SparsityError(
            f"the layer of {site.name} in {model.name} is a {described(layer)} and {reason}, so "
            "that its weight cannot be read; leave out what reads it (spontaneous vectors, norms "
            "of columns), or load the model in bfloat16, float16 or float32"
        )
    return found


def _effective_weight(layer: nn.Module, like: torch.Tensor) -> torch.Tensor | None:
    """[N, K] by what a layer gives for every unit vector; None if it is not linear."""
    n, k = shape_of(layer)
    x = torch.randn(4, k, generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        # Its forward, and not a call: hooks, of a plan or of who observes, are left out.
        zero = layer.forward(like.new_zeros(1, k))
        units = torch.split(torch.eye(k).to(like), _ROWS)
        weight = torch.cat([layer.forward(rows) - zero for rows in units]).t().contiguous()
        product = x.float() @ weight.float().t()
        off = ((layer.forward(x) - zero).float() - product).norm()
    linear = weight.shape == (n, k) and bool(off <= _OFF * product.norm())
    return weight.to(like.dtype) if linear else None
