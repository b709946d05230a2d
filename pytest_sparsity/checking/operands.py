"""Operands of a case: seeded, drawn whole tensors at a time, laid out in memory as it asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from pytest_sparsity.checking import activations
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.guards import extent
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.activation import activate
from pytest_sparsity.reference.compact import CompactInputs
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs

Order = Literal["input_major", "output_major"]

#: Non-zero integer weights per neuron: products of three such sums stay exact in float32.
_INTEGERS_PER_NEURON = 8
#: Elements between rows of a weight with a pitch, and before one with an offset: odd, so that
#: neither keeps an alignment.
_GAP, _OFFSET = 7, 1


def build(op: str, case: Case, device: str = "cpu") -> Any:
    """The operands of ``case`` for ``op``: an instance of its inputs class, on ``device``."""
    inputs = _BUILDERS[op](_Draw(case))
    if device == "cpu":
        return inputs
    return operands.with_tensors(
        inputs, {name: _moved(tensor, device) for name, tensor in operands.tensors(inputs).items()}
    )


@dataclass(frozen=True)
class _Draw:
    """What the operands of one case are drawn with."""

    case: Case

    @cached_property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.case.seed)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.case.dtype)
        return dtype

    @property
    def integer(self) -> bool:
        return self.case.values == "integer"

    def chance(self, *shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator)

    def integers(self, largest: int, *shape: int) -> Tensor:
        """Uniform from -largest to largest, int64."""
        return torch.randint(-largest, largest + 1, shape, generator=self.generator)

    def x_and_threshold(self) -> tuple[Tensor, float]:
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
        return _arranged(x, (x.shape[1] * self.step + gap, self.step), self.offset)

    @property
    def offset(self) -> int:
        return _OFFSET if self.case.layout == "offset" else 0

    @property
    def step(self) -> int:
        """From one element to the next, where they could be beside each other."""
        return 2 if self.case.layout == "strided" else 1

    def listed(self, mask: Tensor) -> Tensor:
        """Where ``mask`` is true: int32 [count], laid out as the case asks."""
        return _arranged(mask.nonzero().flatten().to(torch.int32), (self.step,), self.offset)

    def weight(self, outputs: int, inputs: int, best: Order = "input_major") -> Tensor:
        """[outputs, inputs] of x's dtype, values and layout as the case asks."""
        if self.integer:
            drawn = self.integers(4, outputs, inputs).double()
        else:
            spread = 0.02 if self.case.values == "small" else 1 / math.sqrt(inputs)
            drawn = torch.randn(outputs, inputs, generator=self.generator) * spread
        return self.arranged(drawn.to(self.dtype), best)

    def neurons(self, count: int) -> Tensor:
        """[count, K]: rows of gate or up, not yet arranged."""
        width = self.case.k
        weight = self.weight(count, width, "output_major").contiguous()
        if not self.integer:
            return weight
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
        return _arranged(weight, strides, gap // 2 if layout == "column_slice" else self.offset)

    def packed(self, tensor: Tensor) -> Tensor:
        """A packed operand: contiguous, after an offset if the layout asks for one."""
        return _arranged(tensor, tensor.contiguous().stride(), self.offset)

    def bias(self, outputs: int) -> Tensor | None:
        """[outputs] of x's dtype, or None."""
        if not self.case.bias:
            return None
        integers = self.integers(8, outputs).double()
        drawn = integers if self.integer else torch.randn(outputs, generator=self.generator)
        return _arranged(drawn.to(self.dtype), (self.step,), self.offset)


def _sparse_linear(draw: _Draw) -> SparseLinearInputs:
    x, threshold = draw.x_and_threshold()
    n = draw.case.n
    return SparseLinearInputs(x, draw.weight(n, draw.case.k), threshold, draw.bias(n))


def _sparse_linear_indexed(draw: _Draw) -> SparseLinearIndexedInputs:
    case = draw.case
    mask = activations.mask(case, 1, case.k, draw.generator)
    threshold = activations.threshold(case, draw.generator)
    shared = mask.expand(case.rows, case.k)
    x = activations.activations(case, shared, threshold, (), draw.generator)
    weight = draw.weight(case.n, case.k)
    return SparseLinearIndexedInputs(
        draw.activations_arranged(x), weight, draw.listed(mask[0]), draw.bias(case.n)
    )


def _sparse_qkv(draw: _Draw) -> SparseQkvInputs:
    case = draw.case
    x, thresholds = draw.x_and_thresholds(3)
    sizes = case.option("sizes", (case.n, 1, 1))
    n = sum(sizes)
    return SparseQkvInputs(x, draw.weight(n, case.k), sizes, thresholds, draw.bias(n))  # type: ignore[arg-type]


def _sparse_swiglu(draw: _Draw) -> SparseSwigluInputs:
    case = draw.case
    neurons = case.option("hidden", case.k)
    activation = case.option("activation", "silu")
    x = activations.plain(case, case.rows, case.k, draw.generator)
    if case.pattern == "rows_differ":
        x[1::2] = 0
    gate = draw.neurons(neurons)
    a = activate(activation, x.double() @ gate.double().T).abs()
    threshold, places = _chosen(draw, a)
    gate = gate[places]
    x = activations.with_special(case, x, torch.ones_like(x, dtype=torch.bool), draw.generator)
    return SparseSwigluInputs(
        draw.activations_arranged(x),
        draw.arranged(gate, "output_major"),
        draw.arranged(draw.neurons(neurons), "output_major"),
        draw.weight(case.n, neurons),
        threshold,
        activation,
    )


def _chosen(draw: _Draw, a: Tensor) -> tuple[float, Tensor]:
    """A threshold on |a| [rows, I], and an order of neurons in which row 0 has the pattern.

    The threshold is in the widest gap near the level, so that few neurons are so near it that a
    right kernel may take them for either.  Where |a| are integers it is one of them.
    """
    case = draw.case
    mask = activations.mask(case, 1, a.shape[1], draw.generator)[0]
    # Wanted neurons first, those at the ends before all others.
    wanted = mask.double()
    if case.pattern in ("first", "last"):
        wanted[0 if case.pattern == "first" else -1] = 2.0
    places = wanted.argsort(descending=True, stable=True)
    order = torch.empty_like(places)
    order[places] = a[0].argsort(descending=True, stable=True)
    if case.pattern in ("all", "zeros"):
        return 0.0, order
    if case.pattern == "none":
        return round_to(2 * float(a.max()) + 1.0, draw.dtype), order
    ranked = a.flatten().sort().values
    middle = min(int((1 - mask.double().mean()) * len(ranked)), len(ranked) - 1)
    if draw.integer and case.option("activation", "silu") in ("relu", "relu2"):
        return round_to(float(ranked[middle]), draw.dtype), order
    reach = max(len(ranked) // 20, 1)
    near = ranked[max(middle - reach, 0) : middle + reach + 1]
    if len(near) == 1:
        return round_to(float(near[0]) / 2, draw.dtype), order
    widest = int(near.diff().argmax())
    return round_to(float(near[widest : widest + 2].mean()), draw.dtype), order


def _hot_cold_mlp(draw: _Draw) -> HotColdMlpInputs:
    case = draw.case
    neurons = case.option("hidden", case.k)
    hot = min(case.option("hot", neurons // 2), neurons)
    x = activations.plain(case, case.rows, case.k, draw.generator)
    x = activations.with_special(case, x, torch.ones_like(x, dtype=torch.bool), draw.generator)
    chosen = torch.zeros(neurons, dtype=torch.bool)
    if hot < neurons:
        chosen[hot:] = activations.mask(case, 1, neurons - hot, draw.generator)[0]
    gated = case.option("gate", False)
    return HotColdMlpInputs(
        draw.activations_arranged(x),
        draw.arranged(draw.neurons(neurons), "output_major"),
        draw.weight(case.n, neurons),
        hot,
        draw.listed(chosen),
        case.option("activation", "relu"),
        draw.arranged(draw.neurons(neurons), "output_major") if gated else None,
    )


def _sparse_quantized_linear(draw: _Draw) -> SparseQuantizedLinearInputs:
    x, threshold = draw.x_and_threshold()
    bits = draw.case.option("bits", 8)
    weight = _eight_bits(draw) if bits == 8 else _four_bits(draw)
    return SparseQuantizedLinearInputs(x, weight, threshold, draw.bias(draw.case.n))


def _eight_bits(draw: _Draw) -> QuantizedWeight:
    case = draw.case
    payload = draw.integers(16 if draw.integer else 127, case.k, case.n)
    payload[draw.chance(case.k, case.n) < 0.01] = -128
    return QuantizedWeight(
        _pitched(draw, payload.to(torch.int8)), _scales(draw, 127, case.n), 8, case.n
    )


def _four_bits(draw: _Draw) -> QuantizedWeight:
    case = draw.case
    group = case.option("group", 32)
    # Two outputs share a byte.
    padded = -(-case.n // math.lcm(group, 2)) * math.lcm(group, 2)
    nibbles = torch.randint(0, 16, (2, case.k, padded // 2), generator=draw.generator)
    payload = (nibbles[0] | nibbles[1] << 4).to(torch.uint8)
    scales = _scales(draw, 8, case.k, padded // group)
    return QuantizedWeight(_pitched(draw, payload), scales, 4, case.n)


def _scales(draw: _Draw, largest: int, *shape: int) -> Tensor:
    """Scales of a quantised weight whose payload reaches ``largest``; some are zero."""
    if draw.integer:
        scales = 2.0 ** torch.randint(0, 3, shape, generator=draw.generator)
    else:
        spread = 0.02 if draw.case.values == "small" else 1 / math.sqrt(draw.case.k)
        scales = (draw.chance(*shape) + 0.5) * spread / largest
    scales = torch.where(draw.chance(*shape) < 0.02, torch.zeros_like(scales), scales)
    return draw.packed(scales.to(draw.dtype))


def _pitched(draw: _Draw, payload: Tensor) -> Tensor:
    """Rows of a payload are contiguous, but may have a pitch."""
    gap = _GAP if draw.case.layout in ("pitch", "column_slice", "strided") else 0
    return _arranged(payload, (payload.shape[1] + gap, 1), draw.offset)


def _semi_structured_linear(draw: _Draw) -> SemiStructuredLinearInputs:
    x, threshold = draw.x_and_threshold()
    case = draw.case
    kept, group = case.option("nm", (2, 4))
    groups = case.k // group
    dense = draw.weight(case.n, groups * kept).t().reshape(groups, kept, case.n)
    slots = draw.chance(groups, group, case.n).argsort(1)[:, :kept].sort(1).values
    indices = (slots[:, 0::2] | slots[:, 1::2] << 4).to(torch.uint8)
    weight = SemiStructuredWeight(draw.packed(dense), draw.packed(indices), kept, group)
    return SemiStructuredLinearInputs(x, weight, threshold, draw.bias(case.n))


def _compact(draw: _Draw) -> CompactInputs:
    return CompactInputs(*draw.x_and_threshold())


_BUILDERS: dict[str, Callable[[_Draw], Any]] = {
    "sparse_linear": _sparse_linear,
    "sparse_linear_indexed": _sparse_linear_indexed,
    "sparse_qkv": _sparse_qkv,
    "sparse_swiglu": _sparse_swiglu,
    "hot_cold_mlp": _hot_cold_mlp,
    "sparse_quantized_linear": _sparse_quantized_linear,
    "semi_structured_linear": _semi_structured_linear,
    "compact": _compact,
}


def _arranged(tensor: Tensor, strides: tuple[int, ...], offset: int) -> Tensor:
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
