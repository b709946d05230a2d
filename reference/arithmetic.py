"""Arithmetic as kernels do it: each result moved by what rounding may cost there.

A sum is moved as a whole, by what rounding may cost in any order of its terms:
4 sqrt(n) u sum |terms| + n/2 u |sum|, as the bounds derived by hand have it (``products.summed``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.reference import operations
from pytest_sparsity.reference.interception import Interception
from pytest_sparsity.reference.precision import Precision

#: As in ``precision.sum_bound``.
_SLACK = 4.0
#: Units in the last place that functions of a mathematical library may be off.
_FUNCTION_ULPS = 4.0
#: And products and quotients of complex numbers.
_COMPLEX_ULPS = 4.0

_aten = torch.ops.aten
#: The products of matrices among ``operations.ARITHMETIC``.
_PRODUCTS = ("mm", "bmm", "mv", "dot", "addmm", "baddbmm")


class Random:
    """Signs by lot."""

    def __init__(self, seed: int) -> None:
        self._lot = torch.Generator().manual_seed(seed)

    def __call__(self, value: Tensor) -> Tensor:
        """1 or -1 for each value."""
        drawn = torch.randint(0, 2, value.shape, generator=self._lot, dtype=torch.int8)
        return drawn.to(value.device, value.dtype) * 2 - 1


class Same:
    """All values away from zero, or all towards it."""

    def __init__(self, direction: float) -> None:
        self._direction = direction

    def __call__(self, value: Tensor) -> Tensor:
        """1, -1 or 0 for each value."""
        return value.sign() * self._direction


class _Named:
    """Which operand a value is, or is made of alone."""

    def __init__(self, operands: Mapping[str, Any]) -> None:
        # The tensors are kept, or another may get the identity of one.
        self._of: dict[int, tuple[Tensor, str]] = {}
        for name, value in operands.items():
            for tensor in _tensors(value):
                self._of[id(tensor)] = tensor, name

    def of(self, value: Any) -> str | None:
        """The operand's name."""
        return self._of[id(value)][1] if id(value) in self._of else None

    def follow(self, exact: bool, args: tuple[Any, ...], result: Any) -> None:
        """Take note of the result of an operation."""
        given = list(_tensors(args))
        names = {self.of(each) for each in given if each.is_floating_point() or self.of(each)}
        known = names - {None}
        # What selects from an operand and something else, as zeros, is still that operand.
        if len(known) == 1 and (exact or names == known):
            for tensor in _tensors(result):
                self._of[id(tensor)] = tensor, str(next(iter(known)))


class Moved(Interception):
    """Moves the result of every operation by what rounding may cost there."""

    def __init__(
        self,
        precision: Precision,
        signs: Callable[[Tensor], Tensor],
        operands: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin.

        Args:
            precision: of the kernel.
            signs: from values, real, to which way each is moved.
            operands: by the names that ``precision`` has for some.
        """
        super().__init__()
        self._precision, self._signs = precision, signs
        self._costs = _Costs(precision)
        named = precision.adds or precision.outside
        self._named = _Named(operands or {}) if named else None

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its result, moved."""
        result = self._result(func, args, kwargs)
        if self._named is not None:
            self._named.follow(func._schema.name in operations.EXACT, args, result)
        return result

    def _result(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        full = func._schema.name
        name = full.partition("::")[2]
        costs = self._costs_of(name, args)
        if _adds(full, args, kwargs):
            terms = _added(func, args, kwargs)
            return self._moved(func, func(*args, **kwargs), lambda x: costs.summed(*terms, x))
        result = func(*args, **kwargs)
        if full in operations.EXACT or (name == "abs" and not args[0].is_complex()):
            return result

        def error(value: Tensor) -> Tensor:
            return costs.of(name, args, kwargs, value) + self._adding(name, args, value)

        if isinstance(result, tuple | list):
            return type(result)(self._moved(func, each, error) for each in result)
        return self._moved(func, result, error)

    def _moved(self, func: Any, value: Any, error: Callable[[Tensor], Tensor]) -> Any:
        if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
            return value
        size = error(value)
        real = torch.view_as_real(value) if value.is_complex() else value
        moved = self._signs(real) * (size[..., None] if value.is_complex() else size)
        # What is infinite or NaN is not moved: a masked score stays masked.
        changed = real + torch.where(real.isfinite(), moved.nan_to_num(), 0.0)
        changed = torch.view_as_complex(changed) if value.is_complex() else changed
        return value.copy_(changed) if func._schema.is_mutable else changed

    def _costs_of(self, name: str, args: tuple[Any, ...]) -> _Costs:
        """Those of a library, where that multiplies."""
        if self._named is None or name not in _PRODUCTS:
            return self._costs
        found = self._precision
        for each in _tensors(args):
            found = found.of(self._named.of(each) or "")
        return _Costs(found)

    def _adding(self, name: str, args: tuple[Any, ...], result: Tensor) -> Tensor | float:
        """What it costs that an operand is added in a dtype of its own."""
        if self._named is None or name.rstrip("_") not in ("add", "sub", "addmm", "baddbmm"):
            return 0.0
        for each in _tensors(args):
            dtype = self._precision.adds.get(self._named.of(each) or "")
            if dtype is not None:
                other = (result - each if name.startswith("add") else result + each).abs()
                rounded = other + each.abs() + result.abs()
                return torch.finfo(dtype).eps / 2 * rounded
        return 0.0


class _Costs:
    """What rounding may cost in an operation."""

    def __init__(self, precision: Precision) -> None:
        self._unit = torch.finfo(precision.accumulate).eps / 2
        self._factors = precision.factors
        self._tiny = torch.finfo(precision.accumulate).smallest_normal
        wider = torch.finfo(precision.intermediate).eps <= torch.finfo(precision.accumulate).eps
        # Twice: where few such errors meet, a run shows less than there may be.
        self._stored = 0.0 if wider else torch.finfo(precision.intermediate).eps

    def of(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> Tensor:
        """Of each value of its result; 0 where that is 0 for sure."""
        if name in operations.ARITHMETIC:
            size, count = _terms(name, args, kwargs, result)
            factors = 2 * self._factors * size if self._factors and name in _PRODUCTS else 0.0
            return self.summed(size, count, result) + factors
        size, ulps = result.abs(), _FUNCTION_ULPS
        once = f"aten::{name}" in operations.ROUNDED
        if once:
            ulps = _COMPLEX_ULPS if result.is_complex() else 1.0
        elif name in operations.CANCELLING:  # its result may be much smaller than what it is of
            size = size + _largest(args[0])
        elif name.rstrip("_") in operations.EXPONENTIAL:  # 2^(x log2 e) is off by |x| u
            size = size * (1 + _largest(args[0]) / _FUNCTION_ULPS)
        if not once and name not in operations.ELEMENT_WISE and name != "abs":
            # A sum may be in it, of at most as many terms as a dimension has.
            longest = max((n for a in args if isinstance(a, Tensor) for n in a.shape), default=1)
            ulps += _SLACK * longest**0.5
        return ulps * self._unit * size + self._stored * result.abs()

    def summed(self, size: Tensor, count: Tensor, result: Tensor) -> Tensor:
        """Of a sum of terms of this absolute sum, so many of them not 0."""
        if result.is_complex():  # each product is four, of two sums
            size, count = 2 * size, 2 * count
        summed = (
            _SLACK * count.sqrt() * self._unit * size
            + count / 2 * self._unit * result.abs()
            + torch.where(size == 0, 0.0, count * self._tiny)
        )
        return summed + self._stored * result.abs()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those in nested tuples, lists and dataclasses of packed operands."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _largest(values: Tensor) -> Tensor:
    """The largest finite size of its values."""
    sizes = values.abs()
    return torch.where(sizes.isfinite(), sizes, 0.0).amax() if sizes.numel() else sizes.sum()


def _adds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation adds to elements of its first operand."""
    if name.startswith("aten::index_put"):
        return bool(kwargs.get("accumulate", len(args) > 3 and args[3]))
    return name.rstrip("_") in operations.ADDING


def _added(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The sum of the absolute terms of an operation that adds, and how many are not 0."""

    def over(change: Callable[[Tensor], Tensor]) -> Tensor:
        floats = [change(a) if isinstance(a, Tensor) and _inexact(a) else a for a in args]
        found: Tensor = func(*floats, **kwargs)
        return found

    return over(torch.abs), over(_not_zero)


def _terms(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum of the absolute terms of a reduction, and how many of them are not 0."""
    if name in ("sum", "mean", "nansum", "cumsum"):
        values = args[0]
        over = getattr(_aten, name)
        rest = args[1:]
        size = over(values.abs(), *rest, **kwargs)
        total = _aten.sum if name in ("mean", "nansum") else over
        count = total(_not_zero(values), *rest, **kwargs)
        return size, count
    start: Tensor | None = None
    factors = args
    if name in ("addmm", "baddbmm"):
        start, *factors_list = args[:3]
        factors = tuple(factors_list)
    left, right = factors[0], factors[1]
    size = torch.matmul(left.abs(), right.abs())
    count = torch.matmul(_not_zero(left), _not_zero(right)) + 1
    return (size if start is None else size + start.abs()), count


def _inexact(values: Tensor) -> bool:
    return values.is_floating_point() or values.is_complex()


def _not_zero(values: Tensor) -> Tensor:
    """1 where they are not 0, real."""
    return (values != 0).to(values.real.dtype if values.is_complex() else values.dtype)
