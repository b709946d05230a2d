"""Models as other libraries leave them: their dtype, their tensors, what is to be said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.elsewhere import offloaded
from pytest_sparsity.models.parameter_dtypes import dtype_of
from pytest_sparsity.models.plain_layers import difference, linear_layers
from pytest_sparsity.models.upstream import gist


def cast_or_keep(model: nn.Module, wanted: torch.dtype, asked: str, name: str) -> torch.dtype:
    """Cast a model's parameters in place, unless other libraries made its layers what they are.

    Args:
        model: as it was built.
        wanted: the dtype.
        asked: what the user asked for, ``"auto"`` for nothing.
        name: the model's, for the message.

    Returns:
        The dtype that the model has.

    Raises:
        SparsityError: another one was asked for than such layers have.
    """
    changed = [layer for _, layer in linear_layers(model) if difference(layer) is not None]
    if not changed:
        for path, parameter in model.named_parameters():  # no buffers: rotary angles stay float32
            parameter.data = parameter.data.to(dtype_of(model, path, wanted))
        return wanted
    built: torch.dtype = model.dtype  # type: ignore[assignment]
    if asked != "auto" and wanted != built:
        raise SparsityError(
            f"--sparsity-model {name}: its build() gives layers of another library "
            f"({type(changed[0]).__name__}) in {str(built).removeprefix('torch.')}, which cannot "
            f"be cast to {asked}; build it in that dtype, or leave out --sparsity-dtype"
        )
    return built


def check_foreign_layers_run(model: Any, name: str) -> None:
    """See that layers of other libraries run on the machine that the model is on, on a few tokens.

    Args:
        model: of transformers, in evaluation mode.
        name: its name, for the message.

    Raises:
        SparsityError: one does not, such as one whose kernel is for GPUs alone.
    """
    foreign = [layer for _, layer in linear_layers(model) if difference(layer) is not None]
    if not foreign:
        return
    inside: list[nn.Module] = []
    with ExitStack() as hooks:
        for layer in foreign:
            begin = layer.register_forward_pre_hook(lambda own, args: inside.append(own))
            end = layer.register_forward_hook(lambda own, args, output: inside.remove(own))
            hooks.callback(begin.remove)
            hooks.callback(end.remove)
        rows: int = model.get_input_embeddings().weight.shape[0]
        tokens = torch.arange(1, 5)[None] % rows
        try:
            with torch.no_grad():
                model(input_ids=tokens.to(model.device))
        except Exception as error:
            if not inside:  # something else fails, and is told of where it is looked for
                return
            raise SparsityError(
                f"--sparsity-model {name}: its layers {type(inside[-1]).__name__} do not run on "
                f"{model.device.type} ({type(error).__name__}: {gist(error)}); take a machine that "
                "they are made for with --sparsity-target, or build the model from weights that "
                "are not quantised"
            ) from error


def without_wrapper(made: Any) -> Any:
    """The model of transformers inside of a ``PeftModel``, with its adapters applied.

    Raises:
        SparsityError: the adapter is made of tokens put before a text, which are outside of it.
    """
    configs = getattr(made, "peft_config", None)
    if hasattr(made, "get_base_model") and configs:
        if any(getattr(each, "is_prompt_learning", False) for each in configs.values()):
            raise SparsityError(
                f"{type(made).__name__} puts learnt tokens before every text (prompt learning), "
                "which are no part of the network that is measured; pass the model without it"
            )
        return made.get_base_model()
    return made


def adapters_of(model: nn.Module) -> str:
    """Which adapters (PEFT) a model has and whether they are applied, merged or off; or nothing."""
    found: dict[str, None] = {}
    for layer in model.modules():
        own: Any = layer
        if not hasattr(layer, "base_layer") or not hasattr(layer, "active_adapters"):
            continue
        names = ", ".join(own.active_adapters) or "none"
        if own.disable_adapters:
            state = "switched off"
        elif own.merged:
            state = f"merged into the weights ({', '.join(own.merged_adapters)})"
        else:
            state = f"applied beside the weights, unmerged ({names})"
        found[state] = None
    return f"its adapters are {' and '.join(found)}" if found else ""


def plain_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all that a model holds, taken apart where a library packed it.

    Raises:
        SparsityError: a tensor is on no device, nor where accelerate keeps what it offloads.
    """
    away = {
        f"{path}.{name}" if path else name: tensor
        for path, module in model.named_modules()
        for name, tensor in offloaded(module).items()
    }
    for name, each in model.state_dict().items():
        tensor = away.get(name, each)
        if not isinstance(tensor, torch.Tensor):
            continue  # a quantiser's words about its tensors
        if tensor.is_meta:
            raise SparsityError(
                f"the tensor {name} is on the meta device, so that there are no numbers of it; "
                "load the weights"
            )
        yield from _parts(name, tensor)


def _parts(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if type(tensor) in (torch.Tensor, nn.Parameter):
        yield name, tensor
    elif hasattr(tensor, "__tensor_flatten__"):
        packed: Any = tensor
        names, context = packed.__tensor_flatten__()
        # It says what is done with the parts: whether inputs are rounded as well, for one.
        how = re.sub(r" at 0x[0-9a-f]+", "", f"{type(tensor).__name__} {context}")
        for each in names:
            part = getattr(tensor, each)
            if isinstance(part, torch.Tensor):
                yield from _parts(f"{name}.{each} of {how}", part)
    else:
        yield name, tensor.as_subclass(torch.Tensor)
