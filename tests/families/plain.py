"""What a model computes with its weights, seen below all modules and hooks: an independent count
of products, and an independent masking of what they read.

Both look at the operations that torch runs, and know a weight by the memory it is in, so that
neither depends on names of layers, on which module computes what, or on the package under test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: What a product with a weight runs as, and where its factors are among the arguments.
_FACTORS = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
    "mv": (0, 1),
    "addmv": (1, 2),
    "linear": (0, 1),
    "convolution": (0, 1),
    "_grouped_mm": (0, 1),
}
#: In the path of what a block in a list of blocks has inside; a list of layers is no such list.
_IN_A_BLOCK = re.compile(r"(^|\.)\d+\.\w+\.")

#: Memory, first element, number of elements.
Span = tuple[int, int, int]


def span_of(tensor: torch.Tensor) -> Span:
    """Where the elements of a tensor are, whatever the order in which its axes read them."""
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel()


def signature(weight: torch.Tensor) -> str:
    """The same for a matrix, its transpose, its views, and copies of them in another model."""
    return f"{weight.numel()}:{float(weight.detach().double().pow(3).sum()):.9e}"


def _slices(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The matrices of a stack [E, K, N]."""
    return tuple(weight) if weight.ndim == 3 and len(weight) > 1 else ()


class _Weights:
    """Which memory holds weights, as they are or after operations on weights alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.names: dict[int, str] = {}
        self._kept: list[torch.Tensor] = []  # so that no other tensor gets their memory
        for name, parameter in model.named_parameters():
            self.names.setdefault(parameter.untyped_storage().data_ptr(), name)
        for module in model.modules():  # also what is in a module without being its parameter
            for value in vars(module).values():
                if isinstance(value, torch.nn.Parameter):
                    self.names.setdefault(value.untyped_storage().data_ptr(), "?")

    def name(self, tensor: Any) -> str | None:
        """Of the parameter that a tensor is made of; None if it is not one alone."""
        if not isinstance(tensor, torch.Tensor) or tensor.numel() == 0:
            return None
        return self.names.get(tensor.untyped_storage().data_ptr())

    def follow(self, arguments: list[Any], result: Any) -> None:
        """Remember a result that nothing but one weight went into."""
        tensors = [each for each in arguments if isinstance(each, torch.Tensor) and each.ndim > 0]
        names = {self.name(each) for each in tensors}
        if len(tensors) != 1 or None in names or not isinstance(result, torch.Tensor):
            return
        (name,) = names
        if self.name(result) is None:
            assert name is not None
            self.names[result.untyped_storage().data_ptr()] = name
            self._kept.append(result)


@dataclass(frozen=True)
class Product:
    """A weight that takes part in a product.

    Attributes:
        name: of the parameter.
        signature: see :func:`signature`.
        slices: those of its matrices, if it is a stack of some.
        weights: how many of the parameter's take part.
    """

    name: str
    signature: str
    slices: tuple[str, ...]
    weights: int

    def of(self, sites: Collection[str]) -> bool:
        """Whether it is what the sites with these signatures multiply."""
        whole = {self.signature} <= {*sites}
        return whole or (len(self.slices) > 0 and {*self.slices} <= {*sites})

    @property
    def in_a_block(self) -> bool:
        """Whether it stands in a list of blocks: embeddings and heads, not sparse, do not."""
        return _IN_A_BLOCK.search(self.name) is not None


class Products(TorchDispatchMode):
    """Sees which weights take part in products.

    Attributes:
        seen: them, by where they are.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._weights = _Weights(model)
        self.seen: dict[Span, Product] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        factors = _FACTORS.get(func.overloadpacket.__name__, ())
        for place in factors:
            name = self._weights.name(args[place])
            other = self._weights.name(args[sum(factors) - place])
            where = span_of(args[place])
            if name is not None and other is None and where not in self.seen:
                weight = args[place].detach()
                parts = tuple(map(signature, _slices(weight)))
                self.seen[where] = Product(name, signature(weight), parts, weight.numel())
        result = func(*args, **(kwargs or {}))
        if not factors:
            self._weights.follow(list(args), result)
        return result


@dataclass
class Masked(TorchDispatchMode):
    """TEAL without hooks: of what a weight multiplies, |x| <= t is zero.

    Attributes:
        model: plain, as transformers builds it.
        thresholds: signature of a weight -> t of what it multiplies; several where layers have
            the same weights, in the order in which a pass comes to them; without, all is kept.
        counts: signature and which of the several -> (zeroed, seen), over all passes.
    """

    model: torch.nn.Module
    thresholds: Mapping[str, Sequence[float]]
    counts: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._weights = _Weights(self.model)
        self._signatures: dict[Span, str] = {}
        self._calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        factors = _FACTORS.get(func.overloadpacket.__name__, ())
        for place in factors:
            other = sum(factors) - place
            if self._weights.name(args[place]) is None or self._weights.name(args[other]):
                continue
            found = list(args)
            found[other] = self._mask(args[place], args[other])
            return func(*found, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if not factors:
            self._weights.follow(list(args), result)
        return result

    def _mask(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if (key := self._key(weight)) in self.thresholds:
            return self._masked(key, x)
        keys = [self._key(each) for each in _slices(weight)]
        if not keys or x.ndim != 3 or not {*keys} & {*self.thresholds}:
            return x
        parts = []
        for key, rows in zip(keys, x, strict=True):  # of a token that is not the expert's: zeros
            here = rows.any(-1)
            part = rows.clone()
            if key in self.thresholds:
                part[here] = self._masked(key, rows[here])
            parts.append(part)
        return torch.stack(parts)

    def _key(self, weight: torch.Tensor) -> str:
        where = span_of(weight)
        if where not in self._signatures:
            self._signatures[where] = signature(weight)
        return self._signatures[where]

    def _masked(self, key: str, x: torch.Tensor) -> torch.Tensor:
        which = self._calls[key] % len(self.thresholds[key])
        self._calls[key] += 1
        kept = torch.where(x.abs() > self.thresholds[key][which], x, torch.zeros_like(x))
        zeroed, seen = self.counts.get((key, which), (0, 0))
        self.counts[key, which] = (zeroed + int((kept == 0).sum()), seen + kept.numel())
        return kept
