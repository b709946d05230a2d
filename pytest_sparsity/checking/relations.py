"""Relations between two results of one op that hold exactly, as an op's record declares them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from pytest_sparsity.reference import operands


class Axis(NamedTuple):
    """Where the channels of x are in an operand.

    Attributes:
        dimension: along which they run.
        channels: how many share an index: the group of n:m weights.
        listed: the operand holds numbers of channels, int32 ascending, and not their values.
    """

    dimension: int = 0
    channels: int = 1
    listed: bool = False


#: Operand, named as in ``operands.tensors``, to where the channels are in it.
Channels = Callable[[Any], Mapping[str, Axis]]


@dataclass(frozen=True)
class Parts:
    """How an op is cut in parts whose results add up to the whole.

    Attributes:
        what: is cut, in messages.
        width: how many there are.
        part: operands of those from start to stop.
        group: that many stay together.
        size: what a case calls how many there are, in which contracts may have them in multiples.
    """

    what: str
    width: Callable[[Any], int]
    part: Callable[[Any, int, int], Any]
    group: Callable[[Any], int] = lambda inputs: 1
    size: str = ""


@dataclass(frozen=True)
class Relations:
    """What is known of an op beside its definition; None, and False, where nothing is.

    Attributes:
        rows: rows of the leading operand do not see each other: alone or together, they give the
            same within the bound.  Names of all operands that have rows, if there are several.
        integers: values of parameters at which, with ``values=integer``, every sum is exact in
            float32: the result must be the definition's, bit for bit.
        ends: values of parameters at which the pattern ``none`` gives exactly the bias, or zero.
        channels: where the channels of x are: their order does not matter (with integers).
        parts: how the op is cut in parts that add up (with integers).
        scaled: the operands that give ``factor`` times the result, a power of two; may change
            its argument.
        only_up: the factor must not be below 1.
    """

    rows: bool | tuple[str, ...] = False
    integers: Mapping[str, Sequence[Any]] | None = None
    ends: Mapping[str, Sequence[Any]] | None = None
    channels: Channels | None = None
    parts: Parts | None = None
    scaled: Callable[[Any, float], Any] | None = None
    only_up: bool = False


@dataclass(frozen=True)
class LinearRelations:
    """Those of a layer y = W S(x) + b.

    Attributes:
        channels: where the channels of x are.
        thresholds: fields that are scaled with x.
    """

    channels: Channels
    thresholds: Sequence[str] = field(default=("threshold",))

    def all(self) -> Relations:
        """Every relation of such a layer."""
        return Relations(
            rows=True,
            integers={},
            ends={},
            channels=self.channels,
            parts=Parts(
                "channels",
                lambda inputs: int(inputs.x.shape[1]),
                self._part,
                lambda inputs: max(axis.channels for axis in self.channels(inputs).values()),
                "k",
            ),
            scaled=self._scaled,
        )

    def _scaled(self, inputs: Any, factor: float) -> Any:
        """``inputs`` with x, thresholds and bias times ``factor``."""
        inputs.x.mul_(factor)
        if inputs.bias is not None:
            inputs.bias.mul_(factor)
        return dataclasses.replace(
            inputs, **{name: _times(getattr(inputs, name), factor) for name in self.thresholds}
        )

    def _part(self, inputs: Any, start: int, stop: int) -> Any:
        """The layer over some of the channels of x; the bias belongs to the first of them."""
        axes, tensors = self.channels(inputs), operands.tensors(inputs)
        new = {name: _between(tensors[name], axis, start, stop) for name, axis in axes.items()}
        part = operands.with_tensors(inputs, new)
        return part if start == 0 else dataclasses.replace(part, bias=None)


def _times(value: float | tuple[float, ...], factor: float) -> Any:
    return tuple(v * factor for v in value) if isinstance(value, tuple) else value * factor


def _between(tensor: Tensor, axis: Axis, start: int, stop: int) -> Tensor:
    if axis.listed:
        return tensor[(tensor >= start) & (tensor < stop)] - start
    first, last = start // axis.channels, stop // axis.channels
    return tensor.narrow(axis.dimension, first, last - first)


def gated_mlp(ends: Mapping[str, Sequence[Any]], part: Callable[[Any, int, int], Any]) -> Relations:
    """Those of an MLP with up [I, K], down [N, I] and perhaps a gate [I, K].

    Args:
        ends: see :class:`Relations`.
        part: operands of the neurons from start to stop.
    """

    def channels(inputs: Any) -> dict[str, Axis]:
        names = ("x", "up") if inputs.gate is None else ("x", "gate", "up")
        return dict.fromkeys(names, Axis(1))

    def scaled(inputs: Any, factor: float) -> Any:
        inputs.down.mul_(factor)
        return inputs

    return Relations(
        rows=True,
        integers={"activation": ("relu", "relu2")},
        ends=ends,
        channels=channels,
        parts=Parts("neurons", lambda inputs: int(inputs.up.shape[0]), part, size="hidden"),
        scaled=scaled,
        only_up=True,  # down's small weights lose digits if they get smaller
    )


def neurons(inputs: Any, start: int, stop: int) -> dict[str, Tensor]:
    """The weights of some neurons of an MLP, by the names of its operands."""
    found = {"up": inputs.up[start:stop], "down": inputs.down[:, start:stop]}
    return found if inputs.gate is None else found | {"gate": inputs.gate[start:stop]}
