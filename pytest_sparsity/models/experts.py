"""Experts whose weights are stacked in one parameter, as linear layers: one per expert.

Mixtures of experts of transformers 5 keep the matrices of all experts of a layer in one parameter,
[E, N, K] or, transposed, [E, K, N].  No hook sees what is multiplied with an expert's share of it.

:func:`use_expert_layers` puts a :class:`Stack` in the parameter's place: a plain ``nn.Linear`` per
expert, whose weight is a view of the parameter.  The experts' own loop (the implementation that
transformers calls eager) indexes the stack and multiplies as it did before; the product then is a
call of the expert's layer.  So everything that reads, hooks, changes or adds a bias to a linear
layer works on experts as it does elsewhere, each expert sees the tokens that are routed to it and
no others, and what is computed is the eager implementation to the last bit.  The others, grouped
and batched, sum the same products in another order; they are switched off, because they multiply
with all experts at once and leave no place where one expert's input could be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.routing import reading

#: Names of stacked parameters: [E, ...] with a matrix for each expert.
_STACKED = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")


class _Chosen(threading.local):
    """Per thread: which experts the tokens of the layer under way go to, [T, top k]."""

    experts: Tensor | None = None


_CHOSEN = _Chosen()


class Stack(nn.Module):
    """The matrices of one kind of all experts, as linear layers named ``"0"``, ``"1"``, ...

    Args:
        stacked: [E, N, K], or [E, K, N] if ``transposed``; the layers share its memory.
        experts: how many of them there are; matrices beyond them are not multiplied.
        transposed: whether the experts compute x @ W and not x @ W^T.
        routed: whether an expert sees some tokens only, and not all of them.
    """

    def __init__(self, stacked: nn.Parameter, experts: int, transposed: bool, routed: bool) -> None:
        super().__init__()
        self.transposed, self.routed = transposed, routed
        for expert, matrix in enumerate(stacked.detach()[:experts]):
            weight = matrix.t() if transposed else matrix
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = nn.Parameter(weight, stacked.requires_grad)
            self.add_module(str(expert), layer)

    @property
    def shape(self) -> torch.Size:
        """Of the parameter that it stands for."""
        n, k = self.layer(0).weight.shape
        return torch.Size([len(self), k, n] if self.transposed else [len(self), n, k])

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.layer(0).weight.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.layer(0).weight.device

    def __len__(self) -> int:
        return len(self._modules)

    def layer(self, expert: int) -> nn.Linear:
        """The layer of one expert."""
        found = self._modules[str(expert)]
        assert isinstance(found, nn.Linear)
        return found

    def __getitem__(self, expert: Any) -> _Factor:
        return _Factor(self, int(expert), self.transposed)

    def transpose(self, first: int, second: int) -> _Factor:
        """All matrices, transposed: what a product of all experts with all tokens takes."""
        assert {first % 3, second % 3} == {1, 2}, "the experts' axis stays first"
        return _Factor(self, None, not self.transposed)

    @classmethod
    def __torch_function__(
        cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Tensor:
        x, stack = args
        return _multiplied(function, x, _Factor(stack, None, stack.transposed))


class _Factor:
    """One expert's matrix, or that of all, in the place of the right factor of a product."""

    def __init__(self, stack: Stack, expert: int | None, transposed: bool) -> None:
        self.stack, self.expert, self.transposed = stack, expert, transposed

    def to(self, *_: Any, **__: Any) -> _Factor:
        """The same: what is computed has the weights' dtype."""
        return self

    @classmethod
    def __torch_function__(
        cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Tensor:
        if len(args) != 2 or kwargs or not isinstance(args[1], _Factor):
            raise _unlike(function)
        return _multiplied(function, *args)


def _multiplied(function: Any, x: Tensor, factor: _Factor) -> Tensor:
    """X times an expert's matrix, by the expert's layer."""
    stack, expert = factor.stack, factor.expert
    name = function.__name__
    if expert is None:
        if name not in ("bmm", "matmul", "__matmul__") or not factor.transposed:
            raise _unlike(function)
        return torch.stack([_all_tokens(stack, each, x[each]) for each in range(len(stack))])
    if name not in (("matmul", "mm", "__matmul__") if factor.transposed else ("linear",)):
        raise _unlike(function)
    layer, chosen = stack.layer(expert), _CHOSEN.experts
    if chosen is None or not stack.routed:
        found: Tensor = layer(x)
        return found
    # In the order in which the experts' own loop takes its tokens.
    with reading((chosen.t() == expert).nonzero()[:, 1]):
        return _called(layer, x)


def _all_tokens(stack: Stack, expert: int, x: Tensor) -> Tensor:
    """The product of one expert with all tokens [T, K].

    Where experts are routed, the layer is given their tokens only, and not called where there are
    none.  Those of other experts give zeros, as they do in Llama 4, where they are rows of zeros;
    GPT-OSS in transformers 4 on a device weighs what they give with 0.
    """
    layer = stack.layer(expert)
    if not stack.routed:
        return _called(layer, x)
    chosen = _CHOSEN.experts
    rows = (x if chosen is None else chosen == expert).any(-1).nonzero().squeeze(1)
    whole = x.new_zeros(len(x), layer.out_features)
    if not len(rows):
        return whole
    with reading(rows), _AmongAll(layer, rows, len(x)):
        y = _called(layer, x[rows])
    return whole.index_copy(0, rows, y)


class _AmongAll(TorchFunctionMode):
    """Has a layer's product made of all tokens, though the layer is given those of its expert.

    How a row is added up depends on how many there are, so that the product of some of them is
    not that of transformers to the last bit.

    Args:
        layer: whose product.
        rows: the places of what it is given among all tokens, int64 [R].
        tokens: how many there are.
    """

    def __init__(self, layer: nn.Linear, rows: Tensor, tokens: int) -> None:
        super().__init__()
        self._layer, self._rows, self._tokens = layer, rows, tokens

    def __torch_function__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not F.linear or args[1] is not self._layer.weight:
            return function(*args, **(kwargs or {}))
        x, *others = args
        whole = x.new_zeros(self._tokens, x.shape[1]).index_copy(0, self._rows, x)
        return function(whole, *others, **(kwargs or {}))[self._rows]


def _called(layer: nn.Linear, x: Tensor) -> Tensor:
    found: Tensor = layer(x)
    return found


def _unlike(function: Any) -> SparsityError:
    return SparsityError(
        f"experts that compute with {function.__name__} cannot be sparsified: their matrices are "
        "known as the right factor of linear, matmul and bmm only; use another model"
    )


def use_expert_layers(model: nn.Module) -> None:
    """Put a :class:`Stack` in the place of every stack of experts' matrices, in place.

    The model can be saved no more: its tensors have other names than its configuration says.
    """
    for module in list(model.modules()):
        own = dict(stacked_parameters(module))
        if not own:
            continue
        transposed, routed = _transposed(module, own), _routed(module)
        # LongCat's further ones are none: they give back what they are given.
        experts = min(len(parameter) for parameter in own.values())
        for name, parameter in own.items():
            delattr(module, name)
            module.add_module(name, Stack(parameter, experts, transposed, routed))
        if routed:
            module.register_forward_pre_hook(_remember, with_kwargs=True)
            module.register_forward_hook(_forget, always_call=True)
        if (config := getattr(module, "config", None)) is not None:
            config._experts_implementation = "eager"


def stacked_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A module's own parameters that hold a matrix [N, K] or [K, N] for each of its experts."""
    if "Experts" not in type(module).__name__:
        return
    for name, parameter in module.named_parameters(recurse=False):
        if name in _STACKED and parameter.ndim == 3:
            yield name, parameter


def _transposed(module: nn.Module, own: dict[str, nn.Parameter]) -> bool:
    """Whether the experts compute x @ W: said by transformers 5, and by the shapes."""
    said = getattr(module, "is_transposed", None)
    if said is not None or "gate_up_proj" not in own or "down_proj" not in own:
        return bool(said)
    # [E, H, 2 I] and [E, I, H], and not [E, 2 I, H] and [E, H, I].
    return own["gate_up_proj"].shape[1] == own["down_proj"].shape[2] and (
        own["gate_up_proj"].shape[2] == 2 * own["down_proj"].shape[1]
    )


def _routed(module: nn.Module) -> bool:
    return "Shared" not in type(module).__name__


def _remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Keep which experts each token goes to, [T, top k]: the only integers that experts take."""
    given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    whole = [each for each in given if not each.is_floating_point() and each.ndim == 2]
    _CHOSEN.experts = whole[0] if whole else None


def _forget(module: nn.Module, args: Any, output: Any) -> None:
    _CHOSEN.experts = None
