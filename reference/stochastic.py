"""The bound of an op whose author gives none: computed from its definition.

The definition is run in float64 several times, and after each operation its result is moved by
what a kernel's rounding may cost there: Monte-Carlo arithmetic (Parker 1997, "Monte Carlo
Arithmetic", UCLA CSD-970002), but for one thing.  A sum is moved as a whole, by what rounding may
cost in any order of its terms: 4 sqrt(n) u sum |terms| + n/2 u |sum|, as the bounds derived by hand
have it (``products.summed``).  Signs are drawn at random, so that errors of many values add up like
the root of the sum of their squares; and two runs move all values the same way, since errors of
equal values are equal.  The bound is twice the root mean square of what the random runs give, or
the largest difference of any run where that is more, and the rounding of the result.

Decisions (``decisions``) are held at the definition's own; where one could fall to the other side
within its error, what that would change is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.reference.decisions import ruled
from pytest_sparsity.reference.interception import Interception
from pytest_sparsity.reference.precision import Precision, output_bound

#: Runs with random signs, and what their root mean square is taken times.
_RUNS, _FACTOR = 8, 2.0
#: As in ``precision.sum_bound``.
_SLACK = 4.0
#: Units in the last place that functions of a mathematical library may be off.
_FUNCTION_ULPS = 4.0
#: Decisions that are tried the other way one by one; if there are more, several at a time.
_FLIPS = 64

_aten = torch.ops.aten
#: Results that are some of the operands' values, or their negatives: nothing is rounded.
_EXACT = frozenset(
    f"aten::{name}"
    for name in (
        "_reshape_alias", "_to_copy", "_unsafe_view", "abs", "alias", "amax", "amin", "arange",
        "argsort", "as_strided", "bernoulli", "bitwise_and", "bitwise_not", "bitwise_or", "cat",
        "clamp", "clamp_max", "clamp_min", "clone", "constant_pad_nd", "copy", "copy_", "detach",
        "diagonal", "empty", "empty_like", "eq", "expand", "fill", "fill_", "flip", "full",
        "full_like", "gather", "ge", "gt", "index", "index_put", "index_put_", "index_select",
        "isfinite", "isinf", "isnan", "le", "lift_fresh", "logical_and", "logical_not",
        "logical_or", "lt", "masked_fill", "masked_fill_", "masked_select", "max", "maximum",
        "median", "min", "minimum", "narrow", "ne", "neg", "new_empty", "new_full", "new_ones",
        "new_zeros", "nonzero", "ones", "ones_like", "permute", "relu", "repeat", "roll", "round",
        "scalar_tensor", "scatter", "select", "sign", "slice", "slice_scatter", "sort", "split",
        "split_with_sizes", "squeeze", "stack", "t", "threshold", "topk", "transpose", "tril",
        "triu", "unbind", "unfold", "unsqueeze", "view", "where", "zero_", "zeros", "zeros_like",
    )
)  # fmt: skip
#: Results of one rounding.
_ROUNDED = frozenset(
    f"aten::{name}"
    for name in ("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "sqrt",
                 "reciprocal", "addcmul", "square")
)  # fmt: skip
#: Functions of one element; what is in no list is taken for one that sums.
_ELEMENT_WISE = {
    *("acos", "asin", "atan", "atan2", "celu", "cos", "cosh", "elu", "erf", "erfc", "erfinv"),
    *("exp", "exp2", "expm1", "frac", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "lerp"),
    *("log", "log10", "log1p", "log2", "log_sigmoid_forward", "logit", "mish", "pow", "rsqrt"),
    *("sigmoid", "silu", "sin", "sinh", "softplus", "tan", "tanh", "fmod", "remainder"),
    *(f"{name}_" for name in ("exp", "log", "pow", "rsqrt", "sigmoid", "silu", "tanh")),
}
#: Functions in which what is large may cancel.
_CANCELLING = {
    *("gelu", "lerp", "addcdiv", "_log_softmax", "logsumexp", "native_layer_norm", "erfc"),
    *("native_group_norm", "native_batch_norm", "_native_batch_norm_legit"),
}
_EXPONENTIAL = {"exp", "exp2", "pow", "_softmax", "sigmoid", "silu"}
#: Operations that add several values to one: linear in each of their operands.
_ADDING = {
    *("aten::convolution", "aten::addmv", "aten::addr", "aten::avg_pool2d", "aten::avg_pool3d"),
    *("aten::upsample_linear1d", "aten::upsample_bilinear2d"),
    *("aten::index_add", "aten::scatter_add", "aten::scatter_reduce", "aten::index_reduce"),
}
_ARITHMETIC = {"sum", "mean", "mm", "bmm", "mv", "dot", "addmm", "baddbmm", "cumsum", "nansum"}


def computed_bound(
    define: Callable[..., Any],
    operands: Mapping[str, Any],
    precision: Precision,
    outputs: Sequence[torch.dtype] | None = None,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """How far each element of a right kernel's result may be from the definition's, float64.

    Args:
        define: called with ``operands``; gives a tensor, or several.
        operands: floating-point tensors as float64.
        precision: in which dtypes the kernel works.
        outputs: dtypes of the tensors of its result; by default all are ``precision.output``.
        seed: of the signs.
    """
    runs = _Runs(define, operands, precision, seed)
    bounds = [
        torch.maximum(_FACTOR * (square / _RUNS).sqrt(), largest)
        for square, largest in zip(runs.squares, runs.most, strict=True)
    ]
    for found in runs.flipped():
        for place, (reference, result) in enumerate(zip(runs.references, found, strict=True)):
            bounds[place] = bounds[place] + _between(result, reference)
    dtypes = outputs or [precision.output] * len(bounds)
    return tuple(
        _with_output(reference, bound, dtype) if dtype.is_floating_point else bound
        for reference, bound, dtype in zip(runs.references, bounds, dtypes, strict=True)
    )


def alternatives(
    define: Callable[..., Any], operands: Mapping[str, Any], precision: Precision, seed: int = 0
) -> list[tuple[Tensor, ...]]:
    """What the definition gives if a decision on the edge falls to its other side, one at a time.

    The arguments are those of :func:`computed_bound`.
    """
    return list(_Runs(define, operands, precision, seed).flipped())


class _Runs:
    """The runs of a definition: as it is, and with every operation's result moved.

    Attributes:
        references: of the definition as it is.
        squares: sums of squared differences of the random runs, one per tensor of the result.
        most: the largest difference of any run.
    """

    def __init__(
        self,
        define: Callable[..., Any],
        operands: Mapping[str, Any],
        precision: Precision,
        seed: int,
    ) -> None:
        self._define, self._operands = define, operands
        self._held: list[Tensor] = []
        self._margins: list[Tensor] = []
        self._ties: list[bool] = []
        with ruled(self._note):
            self.references = self._run()
        self._moved = [torch.zeros_like(margin) for margin in self._margins]
        self.squares = [torch.zeros_like(r, dtype=torch.float64) for r in self.references]
        self.most = [torch.zeros_like(r, dtype=torch.float64) for r in self.references]
        for number in range(_RUNS + 2):
            same = number >= _RUNS
            signs = _Same(1.0 if number % 2 else -1.0) if same else _Random(seed * 1009 + number)
            with ruled(self._hold), _Moved(precision, signs):
                found = self._run()
            for place, (reference, result) in enumerate(zip(self.references, found, strict=True)):
                away = _between(result, reference)
                torch.maximum(self.most[place], away, out=self.most[place])
                if not same:
                    self.squares[place] += away**2

    def flipped(self) -> Iterator[tuple[Tensor, ...]]:
        """Results with decisions turned that are within their error of the edge, one by one.

        Where there are more than can be tried so, several are turned at a time.
        """
        near = [
            (number, place)
            for number, (margin, moved) in enumerate(zip(self._margins, self._moved, strict=True))
            # Twice: the runs show what errors are like, not the largest of them.
            for place in (margin.abs() <= 2 * moved).flatten().nonzero().flatten().tolist()
            if self._ties[number] or bool(moved.flatten()[place] > 0)
        ]
        step = max(1, -(-len(near) // _FLIPS))
        for start in range(0, len(near), step):
            others = near[start : start + step]

            def flip(
                margin: Tensor, decision: Tensor, number: int, ties: bool, others: Any = others
            ) -> Tensor:
                turned = self._held[number].clone().flatten()
                for which, place in others:
                    if which == number:
                        turned[place] = ~turned[place]
                return turned.view(decision.shape)

            with ruled(flip):
                yield self._run()

    def _run(self) -> tuple[Tensor, ...]:
        # Copies: a definition may work in place.
        found = self._define(**{name: _copy(value) for name, value in self._operands.items()})
        return (found,) if isinstance(found, Tensor) else tuple(found)

    def _note(self, margin: Tensor, decision: Tensor, number: int, ties: bool) -> Tensor:
        self._held.append(decision)
        self._margins.append(margin)
        self._ties.append(ties)
        return decision

    def _hold(self, margin: Tensor, decision: Tensor, number: int, ties: bool) -> Tensor:
        away = (margin - self._margins[number]).abs().nan_to_num(nan=torch.inf)
        torch.maximum(self._moved[number], away, out=self._moved[number])
        return self._held[number]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _between(result: Tensor, reference: Tensor) -> Tensor:
    """|result - reference|; 0 where both are the same infinity or NaN."""
    if result.shape != reference.shape:
        return torch.full(reference.shape, torch.inf, dtype=torch.float64)
    away = (result.double() - reference.double()).abs()
    same = (result == reference) | (result.isnan() & reference.isnan())
    return torch.where(same, 0.0, away.nan_to_num(nan=torch.inf))


def _with_output(reference: Tensor, bound: Tensor, output: torch.dtype) -> Tensor:
    total = bound + output_bound(reference.double().abs() + bound, output)
    return total.nan_to_num(nan=torch.inf, posinf=torch.inf)


class _Random:
    """Signs by lot."""

    def __init__(self, seed: int) -> None:
        self._lot = torch.Generator().manual_seed(seed)

    def __call__(self, value: Tensor) -> Tensor:
        drawn = torch.randint(0, 2, value.shape, generator=self._lot, dtype=torch.int8)
        return drawn.to(value.device, value.dtype) * 2 - 1


class _Same:
    """All values away from zero, or all towards it."""

    def __init__(self, direction: float) -> None:
        self._direction = direction

    def __call__(self, value: Tensor) -> Tensor:
        return value.sign() * self._direction


class _Moved(Interception):
    """Moves the result of every operation by what rounding may cost there."""

    def __init__(self, precision: Precision, signs: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._unit = torch.finfo(precision.accumulate).eps / 2
        self._tiny = torch.finfo(precision.accumulate).smallest_normal
        wider = torch.finfo(precision.intermediate).eps <= torch.finfo(precision.accumulate).eps
        self._stored = 0.0 if wider else torch.finfo(precision.intermediate).eps / 2
        self._signs = signs

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its result, moved."""
        name = func._schema.name
        if _adds(name, args, kwargs):
            terms = _added(func, args, kwargs)
            return self._moved(func, func(*args, **kwargs), lambda x: self._summed(*terms, x))
        result = func(*args, **kwargs)
        if name in _EXACT:
            return result

        def error(value: Tensor) -> Tensor:
            return self._error(name.partition("::")[2], args, kwargs, value)

        if isinstance(result, tuple | list):
            return type(result)(self._moved(func, each, error) for each in result)
        return self._moved(func, result, error)

    def _moved(self, func: Any, value: Any, error: Callable[[Tensor], Tensor]) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        # What is infinite or NaN is not moved: a masked score stays masked.
        moved = self._signs(value) * error(value)
        changed = value + torch.where(value.isfinite(), moved.nan_to_num(), 0.0)
        return value.copy_(changed) if func._schema.is_mutable else changed

    def _error(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> Tensor:
        """What rounding may cost in this operation; 0 where the result is 0 for sure."""
        if name in _ARITHMETIC:
            return self._summed(*_terms(name, args, kwargs, result), result)
        size, ulps = result.abs(), _FUNCTION_ULPS
        if f"aten::{name}" in _ROUNDED:
            ulps = 1.0
        elif name in _CANCELLING:  # its result may be much smaller than what it is made of
            size = size + _largest(args[0])
        elif name.rstrip("_") in _EXPONENTIAL:  # exp(x) as 2^(x log2 e) is off by |x| u
            size = size * (1 + _largest(args[0]) / _FUNCTION_ULPS)
        if name not in _ELEMENT_WISE and f"aten::{name}" not in _ROUNDED:
            # A sum may be in it, of at most as many terms as a dimension has.
            longest = max((n for a in args if isinstance(a, Tensor) for n in a.shape), default=1)
            ulps += _SLACK * longest**0.5
        return ulps * self._unit * size + self._stored * result.abs()

    def _summed(self, size: Tensor, count: Tensor, result: Tensor) -> Tensor:
        """What a sum may be off: of terms of this absolute sum, so many of them not 0."""
        summed = (
            _SLACK * count.sqrt() * self._unit * size
            + count / 2 * self._unit * result.abs()
            + torch.where(size == 0, 0.0, count * self._tiny)
        )
        return summed + self._stored * result.abs()


def _largest(values: Tensor) -> Tensor:
    """The largest finite size of its values."""
    sizes = values.abs()
    return torch.where(sizes.isfinite(), sizes, 0.0).amax() if sizes.numel() else sizes.sum()


def _adds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation adds to elements of its first operand."""
    if name.startswith("aten::index_put"):
        return bool(kwargs.get("accumulate", len(args) > 3 and args[3]))
    return name.rstrip("_") in _ADDING


def _added(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The sum of the absolute terms of an operation that adds, and how many are not 0."""

    def over(change: Callable[[Tensor], Tensor]) -> Tensor:
        floats = [change(a) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        found: Tensor = func(*floats, **kwargs)
        return found

    return over(torch.abs), over(lambda x: (x != 0).to(x.dtype))


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
        count = total((values != 0).to(values.dtype), *rest, **kwargs)
        return size, count
    start: Tensor | None = None
    factors = args
    if name in ("addmm", "baddbmm"):
        start, *factors_list = args[:3]
        factors = tuple(factors_list)
    left, right = factors[0], factors[1]
    size = torch.matmul(left.abs(), right.abs())
    count = torch.matmul((left != 0).to(left.dtype), (right != 0).to(right.dtype)) + 1
    return (size if start is None else size + start.abs()), count


def narrowed(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Inside, float64 operations are done in another dtype, one by one."""
    return _Narrowed(dtype)


class _Narrowed(Interception):
    """See :func:`narrowed`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its result, computed in the other dtype."""

        def converted(value: Any, before: torch.dtype, after: torch.dtype) -> Any:
            if isinstance(value, Tensor):
                return value.to(after) if value.dtype == before else value
            if isinstance(value, list | tuple):
                return type(value)(converted(each, before, after) for each in value)
            return value

        if func._schema.name in _EXACT:
            return func(*args, **kwargs)
        narrow = converted(args, torch.float64, self._dtype)
        named = {k: converted(v, torch.float64, self._dtype) for k, v in kwargs.items()}
        result = converted(func(*narrow, **named), self._dtype, torch.float64)
        return args[0].copy_(result) if func._schema.is_mutable else result
