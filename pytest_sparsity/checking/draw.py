"""Draws the operands of a case: tensors with the values, layout and active channels it asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from pytest_sparsity.checking import activations
from pytest_sparsity.checking.case import SATURATED, Case
from pytest_sparsity.checking.guards import extent
from pytest_sparsity.reference import operands

Order = Literal["input_major", "output_major"]

#: Non-zero integer weights per neuron: products of three such sums stay exact in float32.
_INTEGERS_PER_NEURON = 8
#: By what weights are larger where arguments of activation functions are to be beyond -100 and 100.
_SATURATING = 100.0
#: Elements between rows of a weight with a pitch, and before one with an offset: odd, so that
#: neither keeps an alignment.
_GAP, _OFFSET = 7, 1


@dataclass(frozen=True)
class Draw:
    """What the operands of one case are drawn with; everything follows from the case.

    Attributes:
        case: what to draw.
    """

    case: Case

    @cached_property
    def generator(self) -> torch.Generator:
        """Of all that is random."""
        return torch.Generator().manual_seed(self.case.seed)

    @property
    def dtype(self) -> torch.dtype:
        """Of activations and float weights."""
        dtype: torch.dtype = getattr(torch, self.case.dtype)
        return dtype

    @property
    def integer(self) -> bool:
        """Whether values are to be small integers, whose float32 sums are exact."""
        return self.case.values == "integer"

    @property
    def saturated(self) -> bool:
        """Whether arguments of activation functions are to be beyond -100 and 100."""
        return self.case.pattern == SATURATED

    def chance(self, *shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator)

    def integers(self, largest: int, *shape: int) -> Tensor:
        """Uniform from -largest to largest, int64."""
        return torch.randint(-largest, largest + 1, shape, generator=self.generator)

    def x_and_threshold(self) -> tuple[Tensor, float]:
        """Draw x [rows, K] with channels at and around a threshold."""
        x, (threshold,) = self.x_and_thresholds(1)
        return x, threshold

    def x_and_thresholds(self, count: int) -> tuple[Tensor, tuple[float, ...]]:
        """Draw x [rows, K] with channels at and around each of ``count`` different thresholds."""
        case = self.case
        mask = activations.mask(case, case.rows, case.k, self.generator)
        middle = activations.threshold(case, self.generator)
        # Powers of two keep the others in the dtype; all or no channels are active for each.
        factors = {"none": (1.0, 2.0, 4.0), "all": (1.0, 0.5, 0.25)}.get(
            case.pattern, (1.0, 0.5, 2.0)
        )
        order = torch.randperm(count, generator=self.generator).tolist()
        thresholds = [middle * factors[place] for place in order]
        x = activations.activations(case, mask, middle, tuple(thresholds), self.generator)
        if case.pattern == "inexact":
            # Nearest to it is still the number of the dtype at which there are ties.
            nearly = torch.finfo(self.dtype).eps / 8
            thresholds = [
                t * (1 + nearly * (-1) ** (case.seed + i)) for i, t in enumerate(thresholds)
            ]
        return self.activations_arranged(x), tuple(thresholds)

    def activations_arranged(self, x: Tensor) -> Tensor:
        """``x`` in memory as the layout asks: rows with a pitch, gaps in them, or an offset."""
        gap = _GAP if self.case.layout in ("pitch", "column_slice", "strided") else 0
        return laid_out(x, (x.shape[1] * self.step + gap, self.step), self.offset)

    @property
    def offset(self) -> int:
        """Elements before the first one in memory."""
        return _OFFSET if self.case.layout == "offset" else 0

    @property
    def step(self) -> int:
        """From one element to the next, where they could be beside each other."""
        return 2 if self.case.layout == "strided" else 1

    def listed(self, mask: Tensor) -> Tensor:
        """Where ``mask`` is true: int32 [count], laid out as the case asks."""
        return laid_out(mask.nonzero().flatten().to(torch.int32), (self.step,), self.offset)

    def weight(self, outputs: int, inputs: int, best: Order = "input_major") -> Tensor:
        """[outputs, inputs] of x's dtype, values and layout as the case asks."""
        if self.case.pattern == "overflow":
            drawn = activations.overflowing(self.dtype, self.chance(outputs, inputs), "weight")
        elif self.integer:
            drawn = self.integers(4, outputs, inputs).double()
        else:
            spread = 0.02 if self.case.values == "small" else 1 / math.sqrt(inputs)
            drawn = torch.randn(outputs, inputs, generator=self.generator) * spread
        return self.arranged(drawn.to(self.dtype), best)

    def neurons(self, count: int, activated: bool = False) -> Tensor:
        """[count, K]: rows of gate or up, not yet arranged.

        Args:
            count: how many.
            activated: their products with x go through the activation function.
        """
        width = self.case.k
        weight = self.weight(count, width, "output_major").contiguous()
        if not self.integer:
            return weight * _SATURATING if activated and self.saturated else weight
        rare = self.chance(count, width) < _INTEGERS_PER_NEURON / width
        return torch.where(rare, weight.sign(), torch.zeros_like(weight))

    def arranged(self, weight: Tensor, best: Order = "input_major") -> Tensor:
        """``weight`` [N, K] in memory as the layout asks."""
        layout = self.case.layout
        order: str = layout if layout in ("input_major", "output_major") else best
        if layout == "column_slice":
            order = "output_major"
        step = self.step
        gap = _GAP if layout in ("pitch", "column_slice") else 0
        outputs, inputs = weight.shape
        if order == "input_major":
            strides = (step, outputs * step + gap)
        else:
            strides = (inputs * step + gap, step)
        return laid_out(weight, strides, gap // 2 if layout == "column_slice" else self.offset)

    def packed(self, tensor: Tensor) -> Tensor:
        """A packed operand: contiguous, after an offset if the layout asks for one."""
        return laid_out(tensor, tensor.contiguous().stride(), self.offset)

    def rows_pitched(self, payload: Tensor) -> Tensor:
        """A packed operand whose rows are contiguous, but may have a pitch."""
        gap = _GAP if self.case.layout in ("pitch", "column_slice", "strided") else 0
        return laid_out(payload, (payload.shape[1] + gap, 1), self.offset)

    def bias(self, outputs: int) -> Tensor | None:
        """[outputs] of x's dtype, or None."""
        if not self.case.bias:
            return None
        integers = self.integers(8, outputs).double()
        drawn = integers if self.integer else torch.randn(outputs, generator=self.generator)
        return laid_out(drawn.to(self.dtype), (self.step,), self.offset)


def on_device(inputs: Any, device: str) -> Any:
    """Operands with their tensors on another device, strides and offsets kept."""
    if device == "cpu":
        return inputs
    return operands.with_tensors(
        inputs, {name: _moved(tensor, device) for name, tensor in operands.tensors(inputs).items()}
    )


def laid_out(tensor: Tensor, strides: tuple[int, ...], offset: int) -> Tensor:
    """A copy of ``tensor`` with these strides and storage offset; gaps are NaN or extreme."""
    dtype = tensor.dtype
    gap = math.nan if dtype.is_floating_point else torch.iinfo(dtype).max
    steps = sum((size - 1) * step for size, step in zip(tensor.shape, strides, strict=True))
    size = 0 if tensor.numel() == 0 else steps + 1
    memory = torch.full((offset + size,), gap, dtype=dtype)
    return memory.as_strided(tensor.shape, strides, offset).copy_(tensor)


def _moved(tensor: Tensor, device: str) -> Tensor:
    """``tensor`` on another device with its strides and offset."""
    size = tensor.storage_offset() + extent(tensor)
    memory = tensor.as_strided((size,), (1,), 0).to(device)
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
