"""Whether a model is what its sites were found in, so that what is attached has its effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.plain_layers import linear_layers

if TYPE_CHECKING:
    from torch import nn

_ANEW = (
    "find the sites anew after quantising, adapting or exchanging layers, "
    "model = pytest_sparsity.with_sites_found_anew(model), and sparsify that"
)


def check_layers(
    model: nn.Module, name: str, layers: Mapping[str, nn.Module], paths: Mapping[str, str]
) -> None:
    """See that every site's layer is in the model still, and called by it.

    Args:
        model: as it is now.
        name: its name, for the message.
        layers: site to its layer.
        paths: site to where that stood when the sites were found.

    Raises:
        SparsityError: one was exchanged, wrapped or taken out.
    """
    now = dict(model.named_modules())
    known = {id(module) for module in now.values()}
    inner: set[int] | None = None
    for site, layer in layers.items():
        path = paths.get(site, "")
        stands = now.get(path)
        if stands is layer:
            continue
        if id(layer) in known:
            if inner is None:  # those that a layer of another library holds
                outer = [each for _, each in linear_layers(model)]
                inner = {id(each) for own in outer for each in own.modules() if each is not own}
            if id(layer) not in inner:
                continue  # what is around it was wrapped
        what = (
            "nothing" if stands is None else f"a {type(stands).__module__}.{type(stands).__name__}"
        )
        raise SparsityError(
            f"the layer of site {site} is no longer what {name} calls: {what} stands at "
            f"{path or 'its place'} now, and what is done at the site would have no effect; {_ANEW}"
        )


def check_not_compiled(model: nn.Module, name: str) -> None:
    """See that no part of a model was compiled: torch does not see hooks that come later.

    Raises:
        SparsityError: one was.
    """
    for path, module in model.named_modules():
        own = vars(module)
        if (
            type(module).__name__ == "OptimizedModule"
            or own.get("_compiled_call_impl") is not None
            or hasattr(own.get("forward"), "_torchdynamo_orig_callable")
        ):
            raise SparsityError(
                f"{path or 'the whole'} of {name} was compiled before a plan is attached, and "
                "compiled code does not see what is attached later; sparsify the model as it was "
                "loaded, and compile it then"
            )


def check_not_split(model: nn.Module, name: str) -> None:
    """See that a model's layers are whole: a tensor parallel plan leaves each process a part.

    Raises:
        SparsityError: they are not: thresholds, counts and biases of a site would be of a part.
    """
    parts = getattr(model, "_tp_size", None) or 1
    if parts > 1:
        raise SparsityError(
            f"{name} is split over {parts} processes by a tensor parallel plan, and a site's layer "
            "is a part of a matrix only; load it without tp_plan"
        )
