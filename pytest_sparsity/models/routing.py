"""Which tokens the rows are that an expert reads, followed through the layer that routes them.

Where all experts of a layer are in one parameter, its forward is given which of them each token
goes to.  Where each is a module of its own (transformers 4, and models with code of their own),
nothing says so: the layer takes rows out of what it reads, and calls the expert with them.  So
while the layer runs, :class:`_Followed` takes the same rows out of the tokens' numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from pytest_sparsity.core.errors import SparsityError

#: Functions whose result has some of the rows of their first argument, in their order.
_TAKES = frozenset(
    [
        *(Tensor.__getitem__, Tensor.index_select, torch.index_select),
        *(Tensor.repeat_interleave, torch.repeat_interleave),
    ]
)
#: Functions whose result, where it has the same size, has the same rows.
_KEEPS = frozenset(
    [
        *(Tensor.to, Tensor.type, Tensor.type_as),
        *(Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16),
        *(Tensor.contiguous, Tensor.clone, torch.clone, Tensor.reshape, torch.reshape),
    ]
)


class _Routing(threading.local):
    """What is known of the experts under way, per thread.

    Attributes:
        rows: the positions that the rows are which the innermost reads [R].
        before: of those that are under way, what ``rows`` was before each.
        followed: layers under way that send tokens to experts, with what follows them.
        groups: sizes of groups, and the positions of the rows that they divide [R].
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.followed: list[tuple[nn.Module, _Followed]] = []
        self.groups: tuple[Any, Tensor] | None = None
        self.before: list[tuple[nn.Module, Tensor | None]] = []


_ROUTING = _Routing()


def routed_rows() -> Tensor | None:
    """Which positions of the pass, flattened [B * T], the expert under way has as its rows [R].

    None outside of experts, where a layer's rows are all positions, in order.
    """
    return _ROUTING.rows


@contextmanager
def reading(rows: Tensor | None) -> Iterator[None]:
    """Inside, what runs is an expert whose rows are those positions [R]."""
    before = _ROUTING.rows
    _ROUTING.rows = rows
    try:
        yield
    finally:
        _ROUTING.rows = before


def _reference(x: Tensor) -> StorageWeakRef:
    """To the memory of x.  It keeps none, and none of another tensor is taken for it."""
    return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Rows:
    """Memory whose rows are known.

    Attributes:
        memory: keeps none, and none of another tensor is taken for it.
        begin: the first element of the tensor that was learned.
        layout: its shape and strides.
        whole: whether its rows stand in memory one after another.
        positions: that its rows are, int64 [R].
    """

    memory: StorageWeakRef
    begin: int
    layout: tuple[Any, ...]
    whole: bool
    positions: Tensor

    @classmethod
    def of(cls, x: Tensor, positions: Tensor) -> _Rows:
        """Of x [..., H], whose rows are those positions."""
        begin, layout = int(x.storage_offset()), (x.shape, x.stride())
        return cls(_reference(x), begin, layout, x.is_contiguous(), positions.flatten())

    def within(self, x: Tensor) -> Tensor | None:
        """The positions [...] of x [..., H] in the same memory, None if it has no whole rows."""
        first, count, inside = 0, len(self.positions), int(x.storage_offset()) - self.begin
        if inside or (x.shape, x.stride()) != self.layout:
            first, inside = divmod(inside, x.shape[-1])
            count = x.numel() // x.shape[-1]
            if inside or not (self.whole and x.is_contiguous()):
                return None
        if not 0 <= first <= len(self.positions) - count:
            return None
        return self.positions[first : first + count].view(x.shape[:-1])


class _Followed(TorchFunctionMode):
    """Follows the rows of what a layer reads, through what it takes out of it.

    Args:
        hidden: what it reads [..., H]; H is how a row is told from other parts of it.
        positions: that its rows are, int64 [R].
    """

    def __init__(self, hidden: Tensor, positions: Tensor) -> None:
        super().__init__()
        self._width = hidden.shape[-1]
        self._known: dict[int, _Rows] = {}
        self._learn(hidden, positions)

    def _learn(self, x: Tensor, positions: Tensor) -> None:
        rows = _Rows.of(x, positions)
        self._known.setdefault(rows.memory.cdata, rows)

    def rows_of(self, x: Tensor) -> Tensor | None:
        """The positions that the rows of x [..., H] are, [...]; None if it is not known."""
        if not x.ndim or x.shape[-1] != self._width:
            return None
        known = self._known.get(_reference(x).cdata)
        return None if known is None else known.within(x)

    def __torch_function__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function not in _TAKES and function not in _KEEPS:
            return result
        if not isinstance(result, Tensor) or self.rows_of(result) is not None:
            return result
        rows = self.rows_of(args[0]) if isinstance(args[0], Tensor) else None
        if rows is None or not result.ndim or result.shape[-1] != self._width:
            return result
        if function in _TAKES:
            try:
                rows = function(rows, *args[1:], **(kwargs or {}))
            except (IndexError, RuntimeError):  # it takes parts of rows
                return result
        if rows.numel() * self._width == result.numel():
            self._learn(result, rows)
        return result


def follow_rows(layer: nn.Module) -> None:
    """Have the rows of what ``layer`` reads followed while it runs."""
    if _begin not in layer._forward_pre_hooks.values():
        layer.register_forward_pre_hook(_begin, with_kwargs=True)
        layer.register_forward_hook(_end, always_call=True)


def _begin(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    hidden = _first(args, kwargs)
    if hidden is None:
        return
    rows = rows_of(hidden)  # inside of a layer that is followed
    if rows is None:
        count = hidden.numel() // max(1, hidden.shape[-1])
        rows = torch.arange(count, device=hidden.device)
    mode = _Followed(hidden, rows)
    mode.__enter__()  # type: ignore[no-untyped-call]
    _ROUTING.followed.append((layer, mode))


def _end(layer: nn.Module, args: Any, output: Any) -> None:
    # Where another hook failed before the layer ran, it was not begun.
    if _ROUTING.followed and _ROUTING.followed[-1][0] is layer:
        mode = _ROUTING.followed.pop()[1]
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        _ROUTING.groups = None


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What a layer reads: its first argument of floating-point numbers."""
    given = (each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
    return next((each for each in given if each.is_floating_point() and each.ndim > 1), None)


def rows_of(x: Tensor) -> Tensor | None:
    """The positions that the rows of x are, as far as the layer under way is followed."""
    return _ROUTING.followed[-1][1].rows_of(x) if _ROUTING.followed else None


def _rows_in_groups(x: Tensor, sizes: Any) -> Tensor | None:
    """The same of x whose rows stand in groups of ``sizes``, an expert's each.

    What a layer makes of its rows has them in the same order: it is known by its ``sizes``, the
    same object.
    """
    rows = rows_of(x)
    if rows is None and _ROUTING.groups is not None and _ROUTING.groups[0] is sizes:
        rows = _ROUTING.groups[1]
    if rows is not None:
        _ROUTING.groups = sizes, rows
    return rows


def route(expert: nn.Module) -> None:
    """Have what runs inside of an expert know which positions its rows are.

    It may be a module of all of a layer's experts, if it is called with the rows and the sizes of
    their groups.
    """
    if _enter not in expert._forward_pre_hooks.values():
        expert.register_forward_pre_hook(_enter, with_kwargs=True)
        expert.register_forward_hook(_leave, always_call=True)


def is_routed(expert: nn.Module) -> bool:
    """Whether :func:`route` was called on it."""
    return _enter in expert._forward_pre_hooks.values()


def _enter(expert: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    x, rows = _first(args, kwargs), None
    if x is not None:
        rows = rows_of(x) if len(args) < 2 else _rows_in_groups(x, args[1])
    if rows is None:
        raise SparsityError(
            f"experts that are a {type(expert).__name__} cannot be sparsified: which tokens come "
            "to them is not known, because what they read is not rows of what their layer reads; "
            "use another model"
        )
    _ROUTING.before.append((expert, _ROUTING.rows))
    _ROUTING.rows = rows.flatten()


def _leave(expert: nn.Module, args: Any, output: Any) -> None:
    if _ROUTING.before and _ROUTING.before[-1][0] is expert:
        _ROUTING.rows = _ROUTING.before.pop()[1]
