"""One pass of a model over a few tokens, in which the products with weights are watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.elsewhere import execution_device
from pytest_sparsity.models.plain_layers import linear_layers

#: Tokens of the pass in which the products are watched.
TOKENS = 4

#: Operations of torch that multiply matrices or convolve, by the names under which they run.
_PRODUCTS = frozenset(
    [
        *("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "mv", "addmv", "dot", "einsum"),
        *("_grouped_mm", "_int_mm", "_scaled_mm", "_weight_int8pack_mm"),
        *("convolution", "_convolution", "mkldnn_convolution", "conv1d", "conv2d"),
    ]
)


def run_of(model: nn.Module, modules: Sequence[nn.Module]) -> set[int]:
    """The ids of those of ``modules`` that a pass runs."""
    run: set[int] = set()
    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(
                module.register_forward_pre_hook(lambda own, args: run.add(id(own)))
            )
        _pass(model)
    return run


@dataclass
class Watched:
    """What a pass showed.

    Attributes:
        rows: id of a linear layer whose forward ran to the number of rows that it read in all.
        runs: the same to how often it ran.
        outside: where the memory of a weight begins that was multiplied outside of its layer, to
            the name of the operation.
    """

    rows: dict[int, int]
    runs: dict[int, int]
    outside: dict[int, str]


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells apart products made by a linear layer's own forward, and others."""

    def __init__(self, own: dict[int, set[int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own = own
        self.under_way: list[int] = []
        self.outside: dict[int, str] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in _PRODUCTS:
            for tensor in _tensors(args):
                here = pointer_of(tensor)
                if here in self.own and not (
                    self.under_way and self.under_way[-1] in self.own[here]
                ):
                    self.outside[here] = name
        return function(*args, **(kwargs or {}))


def _tensors(args: Any) -> Iterator[Tensor]:
    for each in args:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def pointer_of(tensor: Tensor) -> int:
    """Where a tensor's memory begins; 0 where it has none that is known."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


def watch(model: nn.Module, blocks: Sequence[nn.Module]) -> Watched:
    """Run the model once, and watch what its blocks multiply."""
    own: dict[int, set[int]] = {}
    linears: dict[int, nn.Module] = {}
    for block in blocks:
        for module in block.modules():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.ndim >= 2:
                    own.setdefault(pointer_of(parameter), set()).add(id(module))
        for _, layer in linear_layers(block):
            linears[id(layer)] = layer
            for parameter in layer.parameters():  # of an adapter: also what it adapts
                own.setdefault(pointer_of(parameter), set()).add(id(layer))
    own.pop(0, None)
    products = _Products(own)
    rows: dict[int, int] = {}
    runs: dict[int, int] = {}

    def before(layer: nn.Module, args: tuple[Any, ...]) -> None:
        products.under_way.append(id(layer))
        if args and isinstance(args[0], Tensor):
            read = args[0].numel() // max(1, args[0].shape[-1])
            rows[id(layer)] = rows.get(id(layer), 0) + read
            runs[id(layer)] = runs.get(id(layer), 0) + 1

    def after(layer: nn.Module, args: Any, output: Any) -> None:
        products.under_way.pop()

    with ExitStack() as hooks:
        for layer in linears.values():
            hooks.enter_context(layer.register_forward_pre_hook(before))
            hooks.enter_context(layer.register_forward_hook(after, always_call=True))
        with products:
            _pass(model)
    return Watched(rows, runs, products.outside)


def _pass(model: nn.Module) -> None:
    """One pass over a few tokens.

    Raises:
        SparsityError: the model does not run on tokens alone.
    """
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    size, device = len(embedding.weight), embedding.weight.device
    device = execution_device(model) if device.type == "meta" else device
    tokens = (torch.arange(1, TOKENS + 1, device=device) % max(1, size))[None]
    try:
        with torch.no_grad():
            model(input_ids=tokens, use_cache=False)
    except SparsityError:
        raise
    except Exception as error:
        raise SparsityError(
            f"{type(model).__name__} cannot be sparsified: it does not run on tokens alone "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]}); use a decoder-only "
            "language model"
        ) from error
